"""The main job of `make run`: real data, the real teacher, and the served student."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib import Predictor
from saarthi_lib.data.preprocess import Prepared

ROOT = Path(__file__).parent.parent
SAARTHI = [sys.executable, "-c", "from saarthi_lib.cli import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _ask(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the server ended before it was ready"
        try:
            _ask(url)
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError(f"{url} was not ready within a minute")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "intents"
    config = ROOT / "configs" / "intents.yaml"
    command = [*SAARTHI, "pipeline", "run", "--config", str(config)]
    done = subprocess.run(
        [*command, "--set", f"root_output_path={root}"], env=ENVIRONMENT, cwd=ROOT, timeout=3600
    )
    assert done.returncode == 0
    return root


@pytest.mark.slow
def test_int8_student_keeps_the_quality_of_the_teacher(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["languages"] == ["english", "hindi"]
    assert metrics["teacher"]["parameters"] > 117_000_000
    assert metrics["teacher"]["main"] >= 0.9
    assert metrics["retention"] >= 0.99
    for language, kept in metrics["retention_by_language"].items():
        # A test row counts up to 0.4 points here, and other processors round differently.
        assert kept >= 0.98, language
    assert metrics["compression"] >= 50
    assert metrics["speedup"] >= 20


@pytest.mark.slow
def test_served_student_answers_like_the_library(run: Path) -> None:
    bundle = run / "bundle-int8"
    http, grpc = _free_port(), _free_port()
    ports = ["--http-port", str(http), "--grpc-port", str(grpc)]
    process = subprocess.Popen([*SAARTHI, "serve", str(bundle), *ports], env=ENVIRONMENT)
    try:
        base = f"http://127.0.0.1:{http}"
        _wait_until_ready(f"{base}/v2/health/ready", process)
        rows = Prepared(run / "data").table("test").groupby("lang").head(20)
        texts = list(rows["text"])
        expected = [answer.label for answer in Predictor.load(bundle).predict(texts)]
        given = [_ask(f"{base}/predict", {"text": text})["label"] for text in texts]
        assert given == expected
        url = f"{base}/v1/models/intent-classification:predict"
        answers = _ask(url, {"instances": texts})["predictions"]
        assert [answer["label"] for answer in answers] == expected
        right = sum(a == b for a, b in zip(expected, rows["label"], strict=True))
        assert right >= 0.85 * len(texts)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
