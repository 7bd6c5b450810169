"""The report at the end of a run: on the page, in the log and at the webhook."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from components.report_run.component import report_run
from components.stop_run.component import stop_run
from tests.pipelines.kfp_server import KfpServer

MISSED = "teacher: main is 0.5, and must be at least 0.7"
Messages = list[dict[str, Any]]


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Messages]:
    """Messages at the webhook; no local runner and no KFP API."""
    received: Messages = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    for name in ("SAARTHI_ERROR_FILE", "ML_PIPELINE_SERVICE_HOST", "ML_PIPELINE_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("SAARTHI_WEBHOOK", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("SAARTHI_RUN_ID", "r1")
        yield received
        server.shutdown()


def reported(folder: Path, state: Any, api: str = "", error: str | None = None) -> dsl.Markdown:
    status = dsl.PipelineTaskFinalStatus(state, "job", "run", None, error)
    report = dsl.Markdown(uri=str(folder / "report.md"))
    report_run.python_func("saarthi-nlu", api, status, report)
    return report


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("COMPLETE", "SUCCEEDED"),  # of a cluster
        ("CACHED", "SUCCEEDED"),
        ("SUCCEEDED", "SUCCEEDED"),  # of the local runner
        ("FAILED", "FAILED"),
        ("CANCELED", "CANCELED"),
        ("RUNNING", "UNKNOWN"),
        ("", "UNKNOWN"),
        (None, "UNKNOWN"),
        ("A_NEW_STATE", "UNKNOWN"),
    ],
)
def test_states_of_a_cluster_are_understood(
    messages: Messages, tmp_path: Path, state: str | None, shown: str
) -> None:
    report = reported(tmp_path, state)
    [message] = messages
    assert message["state"] == report.metadata["state"] == shown
    assert message["text"].startswith(f"saarthi-nlu (run r1): {shown}")
    assert bool(message["reason"]) == (shown == "UNKNOWN")
    assert (tmp_path / "report.md").read_text().startswith(f"# saarthi-nlu: {shown}\n")


def failing(server: KfpServer) -> str:
    server.executes = True  # so that the state does not change
    tasks = [
        {"task_id": "1", "display_name": "train-teacher", "state": "SUCCEEDED"},
        {"task_id": "2", "display_name": "stop-after-teacher", "state": "FAILED",
         "error": {"code": 2, "message": f"stopped: {MISSED}"}},
    ]  # fmt: skip
    server.runs["r1"] = {"run_id": "r1", "state": "RUNNING", "run_details": {"task_details": tasks}}
    return f"stop-after-teacher: stopped: {MISSED}"


@pytest.mark.parametrize("state", ["FAILED", "RUNNING"])
def test_reasons_come_from_the_api_of_the_namespace(
    server: KfpServer,
    messages: Messages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    reason = failing(server)
    host, port = server.url.removeprefix("http://").split(":")
    monkeypatch.setenv("ML_PIPELINE_SERVICE_HOST", host)
    monkeypatch.setenv("ML_PIPELINE_SERVICE_PORT", port)
    reported(tmp_path, state)
    assert messages[0]["state"] == "FAILED" and messages[0]["reason"] == reason
    reported(tmp_path, "COMPLETE")
    assert messages[1]["reason"] == ""


@pytest.mark.parametrize("statuses", [[500] * 9, [403] * 9, [404] * 9])
def test_the_report_survives_a_failing_api(
    server: KfpServer, messages: Messages, tmp_path: Path, statuses: list[int]
) -> None:
    failing(server)
    server.faults["GET", "/runs/.*"] = statuses
    reported(tmp_path, "FAILED", server.url, error="pod deleted")
    reported(tmp_path, "FAILED", "http://127.0.0.1:9")
    assert [each["state"] for each in messages] == ["FAILED", "FAILED"]
    assert messages[0]["reason"] == "pod deleted"


def test_the_reason_of_a_gate_reaches_the_webhook_at_once(
    messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        stop_run.python_func(MISSED, "saarthi-nlu 2026-12-01")
    [message] = messages
    assert message["reason"] == f"stopped: {MISSED}" and message["run_id"] == "r1"
    assert message["pipeline"] == "saarthi-nlu 2026-12-01" and message["state"] == "FAILED"
    monkeypatch.setenv("SAARTHI_WEBHOOK", "http://127.0.0.1:9")
    with pytest.raises(SystemExit):  # a failing webhook changes nothing
        stop_run.python_func(MISSED, "saarthi-nlu 2026-12-01")
