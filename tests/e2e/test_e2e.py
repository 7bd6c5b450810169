"""`make e2e` without a cluster: each of its commands is in the guide, and each part works here."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.resources import Environment
from saarthi_lib import Predictor
from saarthi_lib.cli import app
from saarthi_lib.config import TrainConfig
from tests.pipelines.kfp_server import KfpServer
from tests.predictors.serving import HOST, Server, serving
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
SCRIPT = FOLDER / "run"
GUIDE = ROOT / "docs" / "guides" / "cluster.md"
WORKFLOW = ROOT / ".github" / "workflows" / "e2e.yaml"
# Programs that change or read the cluster, the store or the manifests.
PROGRAMS = (
    "kubectl",
    "saarthi",
    "aws",
    "sed -i",
    "tar c",
    "python -m",
    "kind load",
    "helm install",
)


def plain(command: str) -> str:
    """A command without quotes, with single spaces."""
    return " ".join(re.sub(r"[\"']", "", command).split())


def commands(text: str) -> list[str]:
    """Commands of a script: one for each line, substitution and port-forward."""
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        line = re.sub(r"^\s*(?:- run:|forward)\s+", "", line)
        line = re.sub(r"^\s*(?:at_least .*|\w+=)\"?\$\((.*?)(?: \| .*)?\)\"?[\s\d.]*$", r"\1", line)
        line = re.sub(r"\s*(?:&|\|\| test .*)$", "", line).strip()
        if line.startswith(PROGRAMS):
            found.append(plain(line).replace("$1", "1").replace("-t 1", "-t 60s"))
    return found


def guide() -> str:
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
    return plain("\n".join(re.sub(r"\\\n", " ", block) for block in blocks))


@pytest.mark.parametrize(("file", "least"), [(SCRIPT, 30), (WORKFLOW, 9)])
def test_each_command_is_in_the_guide(file: Path, least: int) -> None:
    found = commands(file.read_text(encoding="utf-8"))
    text = guide()
    assert len(found) >= least, found
    assert [each for each in found if each not in text] == []


def test_commands_of_every_kind_are_found() -> None:
    text = """
    at_least KFP "$(kubectl -n a get b -o jsonpath='{.c}')" 2.15
    K=$(kubectl -n x get y | base64 -d)
    forward kubectl port-forward service/z 1
        saarthi rollout nlu \\
          --yes &
    kubectl diff -k d || test $? = 1
    echo no
    """
    assert commands(text) == [
        "kubectl -n a get b -o jsonpath={.c}",
        "kubectl -n x get y",
        "kubectl port-forward service/z 1",
        "saarthi rollout nlu --yes",
        "kubectl diff -k d",
    ]


def test_script_passes_bash_and_shellcheck() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT], capture_output=True).returncode == 0
    if shellcheck := shutil.which("shellcheck"):
        done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


# Stands in for kubectl, aws, saarthi and the queries: it records arguments, answers with versions,
# and listens where a port is forwarded.
STAND_IN = """#!{python}
import http.server, os, sys
name, arguments = os.path.basename(sys.argv[0]), " ".join(sys.argv[1:])
if name == "python" and not arguments.startswith("-m tests.e2e.ask"):
    os.execv("{python}", ["{python}", *sys.argv[1:]])
with open("{record}", "a") as record:
    record.write(f"{{name}} {{arguments}}\\n")
if "port-forward" in arguments:
    port = int(sys.argv[3].split(":")[0])
    http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler).serve_forever()
if arguments == "version":
    print("Server Version: v1.32.0")
if "get deployment" in arguments:
    print("image:{kfp}" if "ml-pipeline" in arguments else "image:v0.20.0")
if "get service" in arguments:
    print("service/seaweedfs")
if "get secret" in arguments:
    print("a2V5")
if "exec -i" in arguments:
    sys.stdin.buffer.read()
sys.exit("{failing}" in arguments)
"""


def run(folder: Path, kfp: str = "2.17.0", failing: str = "nothing") -> tuple[int, str, list[str]]:
    """Run the script with stand-ins; returns exit code, output and the recorded commands."""
    record, programs = folder / "record", folder / "bin"
    programs.mkdir()
    text = STAND_IN.format(python=sys.executable, record=record, kfp=kfp, failing=failing)
    for name in ("kubectl", "aws", "saarthi", "python"):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    clone = folder / "clone"  # the script writes into build/
    for name in ("manifests", "saarthi_lib", "tests/e2e", "tests/load"):
        shutil.copytree(ROOT / name, clone / name)
    shutil.copy(ROOT / "pyproject.toml", clone)
    done = subprocess.run(
        [clone / "tests" / "e2e" / "run"],
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout, record.read_text().splitlines()


def test_old_platform_is_refused_before_any_change(tmp_path: Path) -> None:
    code, shown, asked = run(tmp_path, kfp="2.9.1")
    assert code == 1 and "2.9.1 is too old: 2.15 is needed" in shown, shown
    assert "Kubernetes: v1.32.0" in shown
    assert all(each == "kubectl version" or " get " in each for each in asked)
    # The data of the run are there.
    assert (tmp_path / "clone" / "build" / "e2e" / "my-data" / "train.jsonl").is_file()


def ports_are_free() -> bool:
    for port in (8080, 8888, 9000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["nothing", "rollout nlu --bundle"])
def test_steps_come_in_order_and_cleanup_last(tmp_path: Path, failing: str) -> None:
    if not ports_are_free():
        pytest.skip("ports 8080, 8888 or 9000 are in use")
    code, shown, asked = run(tmp_path, failing=failing)
    succeeds = failing == "nothing"
    assert (code == 0) == succeeds, shown
    steps = [
        "kubectl label namespace saarthi-dev app.kubernetes.io/part-of=kubeflow-profile",
        "kubectl apply -k manifests/pipeline",
        "kubectl -n saarthi-dev create secret",
        "kubectl port-forward service/seaweedfs 9000",
        "aws s3 cp",
        "saarthi pipeline submit",
        "kubectl diff -k manifests/overlays/dev/standard",
        "kubectl apply -k manifests/overlays/dev/standard",
        "python -m tests.e2e.ask nlu turn on the kitchen lights --version 1",
        "kubectl -n saarthi-dev run locust",
        "saarthi rollout nlu --bundle s3://mlpipeline/saarthi/bundles/my-bot/2",
        "python -m tests.e2e.ask nlu turn on the kitchen lights --version 2",
        "saarthi rollout nlu --undo",
        "kubectl delete -k manifests/overlays/dev/standard",
        "kubectl delete namespace saarthi-dev --ignore-not-found",
    ]
    wanted = steps if succeeds else [*steps[:11], *steps[13:]]
    places = [next(n for n, each in enumerate(asked) if each.startswith(step)) for step in wanted]
    assert places == sorted(places)
    assert not [each for each in steps if each not in wanted and each in "\n".join(asked)]
    # The load starts before the roll-out.
    load = next(n for n, each in enumerate(asked) if "-t 240s" in each)
    assert abs(load - places[10]) <= 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = write_tiny_bundle(
        tmp_path_factory.mktemp("e2e") / "nlu", name="my-bot", version="1", runtime="onnxruntime"
    )
    with serving(f"nlu={bundle}") as running:
        running.predictors = {"nlu": Predictor.load(bundle)}
        yield running


def ask(server: Server, *options: str) -> subprocess.CompletedProcess[str]:
    addresses = ["--url", server.url, "--address", f"{HOST}:{server.grpc_port}"]
    command = [sys.executable, "-m", "tests.e2e.ask", "nlu", *SENTENCES[:3], *addresses, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_three_protocols_give_the_same_answers(server: Server) -> None:
    done = ask(server, "--version", "1")
    assert done.returncode == 0, done.stderr
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    expected = server.expected("nlu", SENTENCES[:3])
    assert [each["label"] for each in shown] == [each["label"] for each in expected]
    assert min(server.metric("saarthi_requests_total", protocol=p) for p in ("v1", "v2")) > 0
    assert server.metric("saarthi_requests_total", protocol="grpc") > 0


def test_another_version_or_no_answer_exits_with_1(server: Server) -> None:
    done = ask(server, "--version", "2")
    assert done.returncode == 1 and "gRPC: version 1 answers, not 2" in done.stderr
    done = ask(server, "--url", "http://127.0.0.1:9")
    assert done.returncode == 1 and "http://127.0.0.1:9" in done.stderr


def test_load_runs_from_the_files_of_the_pod(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("geventhttpclient")
    [line] = [each for each in commands(SCRIPT.read_text()) if each.startswith("tar c")]
    names = shlex.split(line.partition("|")[0])[2:]
    for name in (each for each in names if (ROOT / each).exists()):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    # The data of the script have texts of all lengths too.
    lengths = ["stop", *SENTENCES[:5], "please " * 9 + "stop"]
    texts = [{"text": each, "lang": "english"} for each in lengths]
    rows = "\n".join(json.dumps(each) for each in texts)
    (tmp_path / "texts.jsonl").write_text(rows, encoding="utf-8")
    load = next(each for each in commands(SCRIPT.read_text()) if "locust --headless" in each)
    command = shlex.split(load.partition(" -- ")[2])
    command[command.index("--host") + 1] = server.url
    command[command.index("-t") + 1] = "2s"
    for limit in ("--slo-p95", "--slo-p99"):  # this machine is busy
        command[command.index(limit) + 1] = "5000"
    # Isolated from the installed package: only the copied files are on the path.
    program = "import sys; sys.path.insert(0, ''); from locust.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command[1:]],
        cwd=tmp_path,
        env={each: value for each, value in os.environ.items() if each != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "SLO kept" in done.stderr, done.stderr[-2000:]


def submission(server: KfpServer, version: str) -> list[str]:
    """Arguments of the script's submission, with the server's address."""
    [line] = [each for each in SCRIPT.read_text().splitlines() if "pipeline submit" in each]
    values = {"REGISTRY": "saarthi", "VERSION": "0.1.0", "BUCKET": "s3://mlpipeline/saarthi"}
    for name, value in {**values, "version": version}.items():
        line = line.replace(f'"${name}"', value)
    arguments = shlex.split(line)[1:]
    arguments[arguments.index("--host") + 1] = server.url
    for name in ("my-bot.yaml", "my-cluster.yaml"):
        arguments[arguments.index(name)] = str(FOLDER / name)
    return [each for each in arguments if each != "--wait"]


def test_submission_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import kfp

    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    with KfpServer() as server:
        done = CliRunner().invoke(app, submission(server, "2"))
        assert done.exit_code == 0, done.output
        [run] = server.runs.values()
        [version] = server.versions.values()
    given = run["runtime_config"]["parameters"]
    assert given["publish_to"] == "s3://mlpipeline/saarthi/bundles"
    assert given["delivery_config"]["bundle_version"] == "2"
    assert given["data_config"]["input_path"] == "s3://mlpipeline/saarthi/my-data"
    executors = version["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {each["container"]["image"] for each in executors.values()} == {"saarthi/train:0.1.0"}


def test_resources_and_configuration_suit_kind() -> None:
    environment = Environment.load(str(FOLDER / "my-cluster.yaml"))
    cpus = {each.cpu for each in environment.kinds.values()}
    assert cpus == {"500m", "1", "2"} and not environment.service_account
    [secret] = environment.secrets
    assert secret.name == "saarthi-s3" and len(secret.env) == 4
    config = TrainConfig.from_yaml(FOLDER / "my-bot.yaml")
    assert not config.fast_dev_run and "/" in config.teacher_name


@pytest.mark.parametrize("mode", ["standard", "serverless", "deployment"])
@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_edited_manifests_have_image_keys_and_bundle(
    tmp_path: Path, environment: str, mode: str
) -> None:
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    edits = [each.strip() for each in SCRIPT.read_text().splitlines() if "sed -i" in each]
    values = {"REGISTRY": "registry.example.com/saarthi", "BUCKET": "s3://mlpipeline/saarthi"}
    values["NAMESPACE"] = "ml"
    for edit in edits:
        done = subprocess.run(["bash", "-euc", edit], cwd=tmp_path, env={**os.environ, **values})
        assert done.returncode == 0
    folder = tmp_path / "manifests" / "overlays" / environment / mode
    found = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    documents = list(yaml.safe_load_all(found.stdout))
    names = {each["kind"]: each["metadata"]["name"] for each in documents}
    assert not any(each["metadata"]["name"] == "ner" for each in documents), names
    assert "image: registry.example.com/saarthi/nlu:0.1.0" in found.stdout
    # KServe would fetch version 10, too, for an address without the slash.
    assert "s3://mlpipeline/saarthi/bundles/my-bot/1/\n" in found.stdout
    [account] = [each for each in documents if each["kind"] == "ServiceAccount"]
    assert account["secrets"] == [{"name": "saarthi-s3"}]
    roles = (tmp_path / "manifests" / "pipeline" / "roll-out.yaml").read_text()
    assert roles.count("namespace: ml\n") == 2 and "namespace: saarthi\n" not in roles


def test_workflow_pins_its_platform() -> None:
    content = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    [job] = content["jobs"].values()
    steps = " ".join(str(each.get("run", "")) for each in job["steps"])
    assert "make e2e" in steps and "master" not in steps and "latest" not in steps
    versions = " ".join(f"{name}={value}" for name, value in content["env"].items())
    assert re.fullmatch(r"([A-Z_]+=v?\d+\.\d+\.\d+ ?){3}", versions)
    assert f"export {versions}" in guide()
