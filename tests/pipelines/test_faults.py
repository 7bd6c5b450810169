"""Gates, retries and reports under KFP's local runner, with the real components.

A small task writes metrics in place of the training, so that a run takes seconds.
"""

import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, components, dsl, local

from components.check_limits.component import check_limits
from components.digest_data.component import digest_data
from pipelines.compile import all_components, compile_to
from pipelines.gates import gate
from pipelines.resources import Environment
from pipelines.train_and_deploy import reported

ROOT = Path(__file__).parents[2]
# On the path of a task, this kills the task's first process.
DIES_ONCE = """
import os
from pathlib import Path
mark = Path(os.environ["TEST_MARK"])
if "TEST_DIES" in os.environ and not mark.exists():
    mark.touch()
    os._exit(137)
"""


@dsl.component(base_image="python-test:1", install_kfp_package=False)
def measure(digest: str, main: float, metrics: dsl.Output[dsl.Artifact]) -> None:
    """Write metrics.json as an evaluation does."""
    import json
    from pathlib import Path

    Path(metrics.path).mkdir()
    content = json.dumps({"main": main, "digest": digest})
    (Path(metrics.path) / "metrics.json").write_text(content)


@dsl.component(base_image="python-test:1", install_kfp_package=False)
def deliver(place: str) -> None:
    """Must not run if a gate fails."""
    from pathlib import Path

    Path(place).touch()


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Messages that a webhook on the loopback has received."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            received.append(json.loads(self.rfile.read(length)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("SAARTHI_WEBHOOK", f"http://127.0.0.1:{server.server_port}/hook")
        yield received
        server.shutdown()


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """Environment with one immediate retry."""
    settings = tmp_path / "test.yaml"
    settings.write_text(
        "image: python-test:1\nretries: {count: 1, first: 0s}\n"
        "kinds: {control: {}, data: {}, teacher: {}, student: {}}\n",
        encoding="utf-8",
    )
    return Environment.load(str(settings))


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set up the local runner; returns the folder of its artifacts."""
    injected = tmp_path / "injected"
    injected.mkdir()
    (injected / "sitecustomize.py").write_text(DIES_ONCE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(injected), str(ROOT)]))
    monkeypatch.setenv("TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("SAARTHI_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.setenv("SAARTHI_RUN_ID", "run-7")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "artifacts"))
    return tmp_path / "artifacts"


def gated(environment: Environment) -> Any:
    @dsl.pipeline(name="gated")
    def pipeline(data_config: dict, limits: dict, main: float, place: str) -> None:
        with reported(environment, "gated"):
            digesting = environment.give(digest_data(data_config=data_config), "control")
            measuring = measure(digest=digesting.output, main=main)
            with gate(environment, "student", limits, measuring.outputs["metrics"]):
                deliver(place=place)

    return pipeline


def arguments(tmp_path: Path, main: float) -> dict[str, Any]:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    (data / "train.csv").write_text("text,label\nhello,greeting\n", encoding="utf-8")
    return {
        "data_config": {"input_path": str(data)},
        "limits": {"main": {"at_least": 0.8}},
        "main": main,
        "place": str(tmp_path / "delivered"),
    }


def test_killed_task_is_retried(
    environment: Environment,
    runner: Path,
    tmp_path: Path,
    webhook: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_DIES", "1")
    gated(environment)(**arguments(tmp_path, main=0.9))
    assert (tmp_path / "mark").exists()  # the task was killed once
    assert (tmp_path / "delivered").exists()
    [sent] = webhook
    assert sent["text"] == "gated (run run-7): SUCCEEDED" and sent["reason"] == ""


def test_missed_gate_fails_the_run_with_the_reason(
    environment: Environment, runner: Path, tmp_path: Path, webhook: list[Any]
) -> None:
    with pytest.raises(RuntimeError, match="stop-run"):
        gated(environment)(**arguments(tmp_path, main=0.75))
    assert not (tmp_path / "delivered").exists()
    why = "stopped: student: main is 0.75, and must be at least 0.8"
    [sent] = webhook
    assert (sent["state"], sent["reason"], sent["run_id"]) == ("FAILED", why, "run-7")
    [report] = runner.glob("*/report-run/report")
    assert why in report.read_text(encoding="utf-8")


def test_limit_on_unknown_metric_is_reported(
    environment: Environment, runner: Path, tmp_path: Path, webhook: list[Any]
) -> None:
    given = {**arguments(tmp_path, main=0.9), "limits": {"retention": {"at_least": 1.0}}}
    with pytest.raises(RuntimeError):
        gated(environment)(**given)
    [sent] = webhook
    assert sent["reason"].startswith("limit on retention: ")


def test_compiled_components_load_with_descriptions(tmp_path: Path) -> None:
    for name, component in all_components().items():
        loaded = components.load_component_from_file(
            str(compile_to(component, tmp_path / f"{name}.yaml"))
        )
        [ours] = component.pipeline_spec.components.values()
        [theirs] = loaded.pipeline_spec.components.values()
        assert theirs.input_definitions == ours.input_definitions, name
        assert theirs.output_definitions == ours.output_definitions, name
        assert component.description, name
        for group in (ours.input_definitions.artifacts, ours.input_definitions.parameters):
            for field, value in group.items():
                assert value.description or _is_status(value), f"{name}: {field}"
        # In KFP only the docstring describes outputs.
        for field in ours.output_definitions.artifacts:
            assert f"{field}: " in component.python_func.__doc__, f"{name}: {field}"
        for field in ours.output_definitions.parameters:
            place = "Returns:" if field == "Output" else f"{field}: Output"
            assert place in component.python_func.__doc__, name


def _is_status(parameter: Any) -> bool:
    kind = parameter.DESCRIPTOR.fields_by_name["parameter_type"].enum_type
    return bool(kind.values_by_number[parameter.parameter_type].name == "TASK_FINAL_STATUS")


def test_loaded_component_runs_in_another_pipeline(runner: Path, tmp_path: Path) -> None:
    file = compile_to(check_limits, tmp_path / "check_limits.yaml")
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"image: .*", "image: python-other:1", text), encoding="utf-8")
    theirs = components.load_component_from_file(str(file))

    @dsl.pipeline(name="theirs")
    def pipeline() -> str:
        measuring = measure(digest="", main=0.5)
        task = theirs(
            what="mine", limits={"main": {"at_most": 0.1}}, metrics=measuring.outputs["metrics"]
        )
        return task.output

    compiler.Compiler().compile(pipeline, str(tmp_path / "theirs.yaml"))
    answer = pipeline().outputs["Output"]
    assert answer == "mine: main is 0.5, and must be at most 0.1"
