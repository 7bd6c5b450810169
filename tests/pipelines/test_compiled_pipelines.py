"""Compiled pipelines: images, resources, caching, gates; parameters and environments."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from pipelines.compile import compile_pipelines, compile_to, make_pipeline
from pipelines.parameters import run_parameters
from pipelines.resources import NO_LIMIT, PENDING, Environment, Retries
from saarthi_lib import __version__
from saarthi_lib.config import SECTIONS, TrainConfig
from saarthi_lib.errors import ConfigError
from tests.pipelines.compiled import ENVIRONMENTS, PIPELINES, read

TEACHER = {"train-teacher", "run-teacher"}
STUDENT = {"distil-stage"}
# These tasks read or change something outside the run.
NEVER_CACHED = {
    "compare-runs", "digest-data", "find-new-data", "record-run", "report-run", "stop-run",
    "start-canary", "check-canary", "promote-canary",
}  # fmt: skip
everywhere = pytest.mark.parametrize("env", ENVIRONMENTS)
all_of_them = pytest.mark.parametrize("name", PIPELINES)


@everywhere
@all_of_them
def test_all_tasks_use_the_image_of_this_version(compiled: Path, name: str, env: str) -> None:
    tasks = list(read(compiled / f"{name}-{env}.yaml").tasks())
    assert {task.container.image for task in tasks} == {f"saarthi/train:{__version__}"}
    assert len(tasks) >= 15


@everywhere
@all_of_them
def test_only_network_tasks_request_a_gpu(compiled: Path, name: str, env: str) -> None:
    for task in read(compiled / f"{name}-{env}.yaml").tasks():
        gpu = task.container.resources.accelerator
        wants = env == "prod" and task.runs in TEACHER | STUDENT
        found = (gpu.resource_type or gpu.type, gpu.resource_count or str(gpu.count))
        assert found == (("nvidia.com/gpu", "1") if wants else ("", "0")), task.name
        assert bool(task.container.resources.resource_memory_limit) == (env != "local"), task.name


@everywhere
@all_of_them
def test_tasks_are_cached_except_those_with_outside_effects(
    compiled: Path, name: str, env: str
) -> None:
    for task in read(compiled / f"{name}-{env}.yaml").tasks():
        assert task.spec.caching_options.enable_cache == (task.runs not in NEVER_CACHED), task.name
        # The run's id comes from the pod: as a parameter it would invalidate all cached results.
        [variable] = task.pod.field_path_as_env
        assert variable.name == "SAARTHI_RUN_ID"
        assert variable.field_path == "metadata.labels['pipeline/runid']"


def test_prod_sets_resources_nodes_retries_and_secrets(compiled: Path) -> None:
    tasks = {task.name: task for task in read(compiled / "nlu-prod.yaml").tasks()}

    teacher = tasks["train-teacher"]
    resources = teacher.container.resources
    assert (resources.resource_cpu_limit, resources.resource_memory_limit) == ("8", "32Gi")
    assert (resources.resource_cpu_request, resources.resource_memory_request) == ("8", "32Gi")
    volumes = {each.mount_path: (each.medium, each.size_limit) for each in
               teacher.pod.empty_dir_mounts}  # fmt: skip
    assert volumes == {"/dev/shm": ("Memory", "8Gi"), "/scratch": ("", "50Gi")}
    assert [(e.name, e.value) for e in teacher.container.env] == [("TMPDIR", "/scratch")]
    assert teacher.pod.active_deadline_seconds == 12 * 3600
    assert dict(teacher.pod.node_selector.labels) == {
        "cloud.google.com/gke-accelerator": "nvidia-l4"
    }
    assert [each.key for each in teacher.pod.tolerations] == ["nvidia.com/gpu"]
    retry = teacher.spec.retry_policy
    assert (retry.max_retry_count, retry.backoff_factor) == (3, 2)
    longest = 4 * (12 * 3600 + PENDING) + 30 + 60 + 120
    assert (retry.backoff_duration.seconds, retry.backoff_max_duration.seconds) == (30, longest)

    stage = tasks["distil-stage"].pod
    assert stage.node_selector.labels["cloud.google.com/gke-spot"] == "true"
    assert [each.key for each in stage.tolerations] == [
        "nvidia.com/gpu",
        "cloud.google.com/gke-spot",
    ]
    assert stage.tolerations[1].value == "true"

    report = tasks["report-run"].pod
    secrets = {each.secret_name: each for each in report.secret_as_env}
    assert set(secrets) == {"saarthi-notifications", "saarthi-s3"}
    assert all(each.optional for each in secrets.values())
    assert [(k.secret_key, k.env_var) for k in secrets["saarthi-notifications"].key_to_env] == [
        ("webhook", "SAARTHI_WEBHOOK")
    ]
    [store] = teacher.pod.secret_as_env
    assert "AWS_ENDPOINT_URL" in {key.env_var for key in store.key_to_env}
    # A retry of a missed gate fails again.
    assert tasks["stop-run"].spec.retry_policy.max_retry_count == 0


@all_of_them
def test_dev_and_local_need_no_special_nodes(compiled: Path, name: str) -> None:
    for task in read(compiled / f"{name}-dev.yaml").tasks():
        assert not task.pod.node_selector.labels and not task.pod.tolerations
        assert task.pod.active_deadline_seconds
    for task in read(compiled / f"{name}-local.yaml").tasks():
        assert not task.pod.empty_dir_mounts and not task.spec.retry_policy.max_retry_count


def test_gates_come_before_distillation_and_publishing(compiled: Path) -> None:
    spec = read(compiled / "joint-prod.yaml").spec
    root = spec.root.dag.tasks
    assert set(root) == {"run", "report-run"} or len(root) == 2
    groups = {
        name: set(component.dag.tasks) for name, component in spec.components.items()
        if component.dag.tasks
    }  # fmt: skip
    [outer] = [tasks for tasks in groups.values() if "train-teacher" in tasks]
    assert {"digest-data", "preprocess-data", "run-teacher", "check-limits"} < outer
    assert "distillation" not in outer
    [after_teacher] = [tasks for tasks in groups.values() if "distillation" in tasks]
    [after_student] = [tasks for tasks in groups.values() if "publish-bundle" in tasks]
    assert "publish-bundle" not in after_teacher and "start-canary" not in after_student
    [roll_out] = [tasks for tasks in groups.values() if "start-canary" in tasks]
    assert "promote-canary" not in roll_out
    stops = Counter(task for tasks in groups.values() for task in tasks if "stop-run" in task)
    assert sum(stops.values()) == 3
    conditions = {
        task.trigger_policy.condition
        for component in spec.components.values()
        for task in component.dag.tasks.values()
        if task.trigger_policy.condition
    }
    assert any("check-limits-Output'] == ''" in each for each in conditions)
    assert any("check-limits-2-Output'] == ''" in each for each in conditions)
    assert any("check-canary-Output'] == ''" in each for each in conditions)


def test_all_pipelines_share_one_distillation(compiled: Path) -> None:
    def distillation(name: str) -> bytes:
        spec = read(compiled / f"{name}-prod.yaml").spec
        dag = spec.components["comp-distillation"].dag
        return dag.SerializeToString(deterministic=True)

    assert len({distillation(name) for name in PIPELINES}) == 1


def test_run_gets_every_section_without_the_output_path(tmp_path: Path) -> None:
    config = TrainConfig.from_mapping(
        {"input_path": str(tmp_path), "root_output_path": "anywhere", "seed": 3}
    )
    pipeline = make_pipeline("nlu", Environment.load("prod"))
    arguments = run_parameters(pipeline, config, {"publish_to": "gs://b/bundles"})
    assert set(arguments) == {f"{name}_config" for name in SECTIONS} | {"publish_to"}
    assert arguments["run_config"]["seed"] == 3
    assert "anywhere" not in str(arguments)
    sections = [f for name, f in arguments.items() if name.endswith("_config")]
    merged = {field: value for section in sections for field, value in section.items()}
    again = TrainConfig.from_mapping({**merged, "root_output_path": "anywhere"})
    assert again == config


def test_publishing_a_trial_is_refused(tmp_path: Path) -> None:
    config = TrainConfig.from_mapping({"input_path": str(tmp_path), "fast_dev_run": True})
    pipeline = make_pipeline("nlu", Environment.load("prod"))
    for parameter in ("publish_to", "predictor"):
        with pytest.raises(ConfigError, match=f"'{parameter}': .*trial.*fast_dev_run: false"):
            run_parameters(pipeline, config, {parameter: "gs://b/bundles"})
    assert run_parameters(pipeline, config, {})["run_config"]["fast_dev_run"]


def test_unknown_and_secret_addresses_are_refused(tmp_path: Path) -> None:
    config = TrainConfig.from_mapping({"input_path": str(tmp_path)})
    pipeline = make_pipeline("nlu", Environment.load("prod"))
    with pytest.raises(ConfigError, match=r"parameter 'publish_to': s3a://b/x: .* known here"):
        run_parameters(pipeline, config, {"publish_to": "s3a://b/x"})
    assert run_parameters(pipeline, config, {"publish_to": "S3://b/x"})["publish_to"] == "s3://b/x"
    secret = TrainConfig.from_mapping({"input_path": "https://h/x.csv?X-Amz-Signature=abc"})
    with pytest.raises(ConfigError, match="a pipeline would record the secret of this address"):
        run_parameters(pipeline, secret, {})
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "object_store": "azure://b/x"}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"object_store: .*s3://bucket/folder \(gs, minio\)"):
        Environment.load(str(path))


def test_sweep_merges_changes_into_student_configs(tmp_path: Path) -> None:
    config = TrainConfig.from_mapping({"input_path": str(tmp_path), "student_epochs": 7})
    pipeline = make_pipeline("sweep", Environment.load("dev"))
    changes = [{"student_lstm_dim": 8}, {"student_lstm_dim": 16, "student_epochs": 3}]
    configs = run_parameters(pipeline, config, {"student_configs": changes})["student_configs"]
    assert [each["student_lstm_dim"] for each in configs] == [8, 16]
    assert [each["student_epochs"] for each in configs] == [7, 3]
    presets = [{"student_preset": "tiny"}, {"student_preset": "base", "student_lstm_dim": 500}]
    configs = run_parameters(pipeline, config, {"student_configs": presets})["student_configs"]
    assert [each.get("student_lstm_dim") for each in configs] == [None, 500]
    assert [each["student_preset"] for each in configs] == ["tiny", "base"]
    with pytest.raises(ConfigError, match="parameter 'student_configs' is missing"):
        run_parameters(pipeline, config, {})
    with pytest.raises(ConfigError, match="did you mean 'student_lstm_dim'"):
        run_parameters(pipeline, config, {"student_configs": [{"student_lstm_dims": 8}]})
    with pytest.raises(ConfigError, match="'teacher_name' is not a field of the section student"):
        run_parameters(pipeline, config, {"student_configs": [{"teacher_name": "minilm"}]})
    for wrong in ({"student_lstm_dim": 8}, ["tiny"]):
        with pytest.raises(ConfigError, match="student_configs: give a list of mappings"):
            run_parameters(pipeline, config, {"student_configs": wrong})
    with pytest.raises(ConfigError, match="parameter 'publish' is unknown; use one of"):
        run_parameters(pipeline, config, {"publish": "x"})


SETTINGS: dict[str, Any] = {"image": "registry.example/saarthi@sha256:" + 64 * "0", "kinds": {
    "control": {}, "data": {}, "teacher": {"gpu": {"type": "amd.com/gpu", "count": 2}},
    "student": {},
}}  # fmt: skip


def test_own_environment_file_sets_all_tasks(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    own = {
        **SETTINGS,
        "object_store": "s3://bucket/runs",
        "image_pull_secrets": ["registry"],
        "variables": {"MLFLOW_TRACKING_URI": "http://mlflow.ml"},
        "secrets": [{"name": "key", "folder": "/secrets/key", "kinds": ["data"]}],
    }
    path.write_text(yaml.safe_dump(own), encoding="utf-8")
    [file, *_] = compile_pipelines(tmp_path, [str(path)])
    assert file == tmp_path / "nlu-mine.yaml"
    compiled = read(file)
    assert compiled.spec.default_pipeline_root == "s3://bucket/runs"
    for task in compiled.tasks():
        assert task.container.image == SETTINGS["image"]
        assert [each.secret_name for each in task.pod.image_pull_secret] == ["registry"]
        assert ("MLFLOW_TRACKING_URI", "http://mlflow.ml") in [
            (each.name, each.value) for each in task.container.env
        ]
        accelerator = task.container.resources.accelerator
        assert (accelerator.resource_count == "2") == (task.runs in TEACHER)
        mounted = [each.mount_path for each in task.pod.secret_as_volume]
        tables = {"preprocess-data", "export-model", "quantize-model", "evaluate-models"}
        reads = task.runs in tables | {"explain-predictions"}
        assert (mounted == ["/secrets/key"]) == reads, task.name


@pytest.mark.parametrize("place", ["s3://bucket/unfinished", "/volume/unfinished"])
def test_only_trainings_get_volumes_and_checkpoints(tmp_path: Path, place: str) -> None:
    volume = {"claim": "models", "folder": "/volume", "kinds": ["teacher", "student"]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "volumes": [volume], "checkpoints": place}))
    pipeline = make_pipeline("sweep", Environment.load(str(path)))
    for task in read(compile_to(pipeline, tmp_path / "p.yaml")).tasks():
        trains = task.runs in TEACHER | STUDENT
        mounts = [(each.constant, each.mount_path) for each in task.pod.pvc_mount]
        assert mounts == ([("models", "/volume")] if trains else []), task.name
        found = {each.name: each.value for each in task.container.env}
        assert found.get("SAARTHI_CHECKPOINTS") == (place if trains else None), task.name


@given(
    count=st.integers(1, 6),
    minutes=st.integers(1, 2000),
    first=st.integers(0, 900),
    factor=st.integers(1, 3),
    pending=st.floats(0, PENDING),
)
def test_every_retry_starts_and_has_its_whole_time(
    count: int, minutes: int, first: int, factor: int, pending: float
) -> None:
    longest = Retries(count=count, first=f"{first}s", factor=factor).seconds(minutes)
    if longest == NO_LIMIT:
        return
    # Each attempt runs into its time limit, after it waited for a node. Argo starts a retry only
    # before its deadline, which counts from the start of the first attempt, and ends a later pod.
    now = 0.0
    for retry in range(count + 1):
        now += pending + 60 * minutes
        assert now <= longest
        if retry < count:
            now += first * factor**retry
            assert now <= longest


def test_retries_have_whole_factors_and_a_deadline(tmp_path: Path) -> None:
    assert Retries(count=2).seconds(None) == NO_LIMIT
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "retries": {"factor": 1.5}}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"retries\.factor: .*integer"):  # Argo refuses it
        Environment.load(str(path))
    run = {"deadline_hours": 30, "keep_days": 2}
    path.write_text(yaml.safe_dump({**SETTINGS, **run}), encoding="utf-8")
    compiled = read(
        compile_to(make_pipeline("nlu", Environment.load(str(path))), tmp_path / "p.yaml")
    )
    whole = json_format.MessageToDict(compiled.platform)["platforms"]["kubernetes"][
        "pipelineConfig"
    ]
    assert sorted(int(float(str(each).rstrip("s"))) for each in whole.values()) == [
        30 * 3600,
        2 * 24 * 3600,
    ]


def test_trainer_launches_from_a_task_without_gpu(tmp_path: Path) -> None:
    trainer = {"nodes": 2, "gpus_per_node": 4, "namespace": "ml", "resources": {"memory": "64Gi"}}
    kinds = {**SETTINGS["kinds"], "teacher": {"minutes": 90}, "control": {"minutes": 5}}
    path = tmp_path / "mine.yaml"
    changes: dict[str, Any] = {"kinds": kinds, "trainer": trainer, "retries": {"count": 1}}
    changes["checkpoints"] = "gs://bucket/states"
    changes["variables"] = {"HF_ENDPOINT": "https://hub.example.com"}
    keys = {"name": "saarthi-s3", "env": {"KEY": "AWS_ACCESS_KEY_ID"}, "optional": True}
    changes["secrets"] = [keys, {"name": "hook", "env": {"url": "HOOK"}, "kinds": ["control"]}]
    path.write_text(yaml.safe_dump({**SETTINGS, **changes}), encoding="utf-8")
    pipeline = make_pipeline("nlu", Environment.load(str(path)))
    tasks = {task.runs: task for task in read(compile_to(pipeline, tmp_path / "p.yaml")).tasks()}
    assert "train-teacher" not in tasks
    launcher = tasks["train-teacher-on-nodes"]
    assert launcher.pod.active_deadline_seconds == 90 * 60  # the job's time limit
    assert launcher.spec.retry_policy.backoff_max_duration.seconds >= 2 * 90 * 60
    assert not launcher.container.resources.HasField("accelerator")
    variables = {each.name: each.value for each in launcher.container.env}
    assert variables["SAARTHI_CHECKPOINTS"] == "gs://bucket/states"  # for the job's pods
    given = {
        name: json_format.MessageToDict(each.runtime_value.constant)
        for name, each in launcher.spec.inputs.parameters.items()
        if each.HasField("runtime_value")
    }
    assert given["resources"] == {"memory": "64Gi", "nvidia.com/gpu": "4"}
    assert (given["nodes"], given["image"]) == (2, SETTINGS["image"])
    # The pods of the job read the same keys as a teacher's task.
    place = {"name": "saarthi-s3", "key": "KEY", "optional": True}
    assert given["variables"] == [
        {"name": "HF_ENDPOINT", "value": "https://hub.example.com"},
        {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": place}},
    ]
    folder = {"name": "gcs", "folder": "/keys"}
    path.write_text(yaml.safe_dump({**SETTINGS, **changes, "secrets": [folder]}), encoding="utf-8")
    with pytest.raises(ConfigError, match="trainer: its pods mount no secret"):
        Environment.load(str(path))


def test_texts_of_settings_stay_as_written(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: 1.10\nservice_account: 007\nparallelism: 3\nexplain: yes\napi: ~\n"
        "gates: {student: {retention: {at_least: 0.8}}}\n"
        "kinds:\n  control: {cpu: 2, minutes: 30}\n  data: {cpu: 1.5}\n  student: {}\n"
        "  teacher:\n    node_selector: {spot: true, zone: no}\n"
        "    tolerations: [{key: on, value: 1}]\n",
        encoding="utf-8",
    )
    read = Environment.load(str(path))
    assert (read.name, read.service_account, read.api) == ("1.10", "007", None)
    assert (read.parallelism, read.explain) == (3, True)
    assert read.gates.student == {"retention": {"at_least": 0.8}}
    assert (read.kinds["control"].cpu, read.kinds["control"].minutes) == ("2", 30)
    assert read.kinds["data"].cpu == "1.5"
    assert read.kinds["teacher"].node_selector == {"spot": "true", "zone": "no"}
    assert read.kinds["teacher"].tolerations[0].value == "1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": "saarthi/train:latest"}, "pin it by a version or a digest"),
        ({"image": "localhost:5000/saarthi"}, "pin it by a version or a digest"),
        ({"kinds": {**SETTINGS["kinds"], "control": {"gpu": {}}}}, "kinds.control: uses no GPU"),
        ({"kinds": {"control": {}}}, "data, student, teacher missing"),
        ({"kinds": {**SETTINGS["kinds"], "data": {"spot": True}}}, "there are no spot_nodes"),
        *(
            (
                {"kinds": {**SETTINGS["kinds"], "data": {name: amount}}},
                f"kinds.data.{name}: .*{form}",
            )
            for name, amount, form in (
                ("memory", "4 GB", "form 16Gi"),
                ("memory", "1.5Gi", "a whole number"),
                ("scratch", "10 GB", "form 4, 500m or 64Gi"),
                ("cpu", "4Gi", "form 2, 0.5 or 500m"),
                ("cpu", "0.5m", "form 2, 0.5 or 500m"),
            )
        ),
        ({"retries": {"first": "5m"}}, "retries.first: .*'5m' is not of the form 30s"),
        ({"trainer": {"nodes": 2, "gpus_per_node": 1, "namespace": "ml"}}, "trainer: needs image"),
        (
            {"checkpoints": "/volume/x"},
            "checkpoints: /volume/x is in no volume of the kind student",
        ),
        (
            {
                "checkpoints": "/volume/x",
                "volumes": [{"claim": "c", "folder": "/vol", "kinds": ["teacher"]}],
            },
            "checkpoints: .* is in no volume of the kind student",
        ),
        ({"checkpoints": "ftp://host/x"}, "checkpoints: .*of the form s3://bucket"),
        ({"volumes": [{"claim": "c", "folder": "relative"}]}, "volumes.0.folder"),
        ({"imagee": "x"}, "imagee: Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_are_refused_with_the_field_name(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, **change}), encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as refused:
        Environment.load(str(path))
    assert "mine.yaml" in str(refused.value)
    with pytest.raises(ConfigError, match="environment 'staging' is unknown"):
        Environment.load("staging")
