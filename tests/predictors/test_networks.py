"""Networks that hang, grow or fail late are refused before they are served, at start and reload."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from predictors.sources import Source
from predictors.version import FailedVersionError, Version
from saarthi_lib.errors import BundleError, NetworkError
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.inference.trial import Trial
from tests.late_networks import (
    CELLS,
    FAULTS,
    REPEATED,
    ROWS,
    TOKENS,
    bundle_with,
    double_network,
    endless_network,
    endless_torchscript,
    late_network,
)
from tests.predictors.serving import Server, free_port, serving, start, wait_for
from tests.tiny_bundle import SENTENCES, make_tokenizer, write_tiny_bundle

MAX_SEQ_LEN = 26


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original") / "bundle"
    return write_tiny_bundle(folder, name="bot", runtime="onnxruntime")


def with_fault(original: Path, folder: Path, *fault: Any, **fields: Any) -> Path:
    content = late_network((original / "model.onnx").read_bytes(), *fault)
    return bundle_with(original, folder, content, **fields)


def endless(original: Path, folder: Path, version: str, **options: Any) -> Path:
    content = endless_network((original / "model.onnx").read_bytes(), **options)
    return bundle_with(original, folder, content, version=version)


@pytest.mark.parametrize(("axis", "at"), [(ROWS, 2), (TOKENS, 2), (TOKENS, MAX_SEQ_LEN)])
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "grows"])
def test_late_failure_is_refused_by_the_library(
    original: Path, tmp_path: Path, fault: str, axis: int, at: int
) -> None:
    bundle = with_fault(original, tmp_path / "late", fault, axis, at)
    with pytest.raises(BundleError, match=r"the network('s outputs| does not run)"):
        Predictor.load(bundle)


def test_logits_in_double_precision_are_refused(original: Path, tmp_path: Path) -> None:
    content = double_network((original / "model.onnx").read_bytes())
    with pytest.raises(BundleError, match="float64, not float32"):
        Predictor.load(bundle_with(original, tmp_path / "double", content))


@pytest.mark.parametrize(
    "fault",
    [
        *[("fails", TOKENS, 17), ("gives NaN", ROWS, 7), ("grows", TOKENS, MAX_SEQ_LEN)],
        *[("fails", CELLS, 32 * MAX_SEQ_LEN), ("loses labels", CELLS, 7 * 23)],
    ],
    ids=str,
)
def test_late_failure_is_refused_by_the_server(
    original: Path, tmp_path: Path, fault: tuple[Any, ...]
) -> None:
    bundle = with_fault(original, tmp_path / "late", *fault)
    before = psutil.Process().memory_info().rss
    with pytest.raises(FailedVersionError, match="the network"):
        Version.load(Source(str(bundle)), 1)
    assert psutil.Process().memory_info().rss - before < 500e6


@pytest.mark.parametrize("of_unknown", [False, True])
def test_start_with_endless_network_ends_with_message(
    original: Path, tmp_path: Path, of_unknown: bool
) -> None:
    bundle = endless(original, tmp_path / "endless", "1", of_unknown=of_unknown)
    log = tmp_path / "log"
    options = ("--trial-seconds", 2, "--http-port", free_port(), "--grpc-port", 0)
    process = start(log, bundle, *options)
    assert process.wait(60) == 2
    text = log.read_text(encoding="utf-8")
    assert "model.onnx: the network has not answered within 2 s" in text
    assert "SAARTHI_TRIAL_SECONDS" in text and "Traceback" not in text


@pytest.mark.parametrize("fault", ["gives NaN", "gives Inf"])
def test_text_whose_logits_are_nan_gets_no_answer(
    original: Path, tmp_path: Path, fault: str
) -> None:
    """Such a text is too rare for any trial."""
    bundle = with_fault(original, tmp_path / "late", fault, REPEATED, 9)
    words = {word for sentence in SENTENCES for word in sentence.split()}
    word = next(word for word in sorted(words) if len(make_tokenizer().encode(word)) == 1)
    text = " ".join([word] * 9)
    with pytest.raises(NetworkError, match="bot, version 1: the network gives NaN or Inf"):
        Predictor.load(bundle).predict([text])
    if fault == "gives NaN":
        with serving(bundle) as server:
            asked = server.post("/predict", {"text": text})
            assert asked.status_code == 500 and "internal error" in asked.json()["error"]
            body = {"instances": [text]}
            assert server.post("/v1/models/bot:predict", body).status_code == 500
            assert server.post("/predict", {"text": "turn on"}).json()["probability"] > 0
            assert any("gives NaN or Inf" in line for line in server.log_lines())


@contextmanager
def replaceable(first: Path, tmp_path: Path, **options: Any) -> Iterator[tuple[Server, Any]]:
    """A server of a place, and a function that puts another bundle there."""
    place = tmp_path / "place"
    place.symlink_to(first)

    def put(bundle: Path) -> None:
        (tmp_path / "next").symlink_to(bundle)
        (tmp_path / "next").rename(place)

    with serving(place, reload_seconds=0.05, **options) as server:
        yield server, put


def trials(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def version(server: Server) -> str:
    return str(server.post("/predict", {"text": "turn on"}).json()["version"])


def test_endless_version_delays_no_later_one(original: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"trial_seconds": 4, "repository_api": True}
    with replaceable(original, tmp_path, **options) as (server, put):
        put(endless(original, tmp_path / "2", "2"))
        wait_for(lambda: trials(server))
        assert version(server) == "1"  # answers go on
        wait_for(lambda: server.metric("saarthi_loads_total", outcome="refused") == 1)
        for _ in range(20):  # each time, the server has looked again
            assert trials(server) == []
            time.sleep(0.05)
        asked = server.post("/v2/repository/models/bot/load", {})  # an operator can try again
        assert asked.status_code == 400 and "has not answered within 4 s" in asked.json()["error"]
        later = bundle_with(
            original, tmp_path / "3", (original / "model.onnx").read_bytes(), version="3"
        )
        put(later)
        wait_for(lambda: version(server) == "3")
        lines = [line for line in server.log_lines() if "has not answered within" in line]
        assert len(lines) == 1 and "bot stays at version 1" in lines[0]
        assert "Traceback" not in server.log.read_text(encoding="utf-8")


def test_failing_version_is_logged_and_tried_once(original: Path, tmp_path: Path) -> None:
    with replaceable(original, tmp_path) as (server, put):
        put(with_fault(original, tmp_path / "2", "fails", TOKENS, 17, version="2"))
        wait_for(lambda: server.metric("saarthi_loads_total", outcome="refused") == 1)
        for _ in range(20):
            assert trials(server) == []
            time.sleep(0.05)
        assert version(server) == "1"
        assert len([line for line in server.log_lines() if "the network" in line]) == 1
        assert "Traceback" not in server.log.read_text(encoding="utf-8")


def test_endless_trial_delays_no_sigterm(original: Path, tmp_path: Path) -> None:
    with replaceable(original, tmp_path, trial_seconds=600) as (server, put):
        put(endless(original, tmp_path / "2", "2"))
        [trial] = wait_for(lambda: trials(server))
        assert server.stop() == 0  # waits 30 seconds at most
        wait_for(lambda: not trial.is_running() or trial.status() == psutil.STATUS_ZOMBIE, 10)
        assert "Traceback" not in server.log.read_text(encoding="utf-8")


def test_trial_ends_with_a_killed_server(original: Path, tmp_path: Path) -> None:
    with replaceable(original, tmp_path, trial_seconds=600) as (server, put):
        put(endless(original, tmp_path / "2", "2"))
        [trial] = wait_for(lambda: trials(server))
        wait_for(lambda: trial.num_threads() and trial.cpu_times().user > 0.5)  # it has started
        server.process.kill()
        wait_for(lambda: not trial.is_running() or trial.status() == psutil.STATUS_ZOMBIE, 10)


def test_trial_runs_no_code_of_the_working_directory(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("numpy", "onnxruntime", "json", "saarthi_lib"):
        (tmp_path / f"{name}.py").write_text("open('owned', 'w')", encoding="utf-8")
    assert Version.load(Source(str(original)), 1).manifest.name == "bot"
    assert not (tmp_path / "owned").exists()


def test_file_changed_during_the_trial_is_looked_at_again(original: Path, tmp_path: Path) -> None:
    """A half-written version fails, but not for ever."""
    second = bundle_with(
        original, tmp_path / "2", (original / "model.onnx").read_bytes(), version="2"
    )
    half = Path(shutil.copytree(second, tmp_path / "half"))
    whole = (half / "model.onnx").read_bytes()
    (half / "model.onnx").write_bytes(whole[:-1] + b"\0")
    with replaceable(original, tmp_path) as (server, put):
        put(half)
        wait_for(lambda: server.metric("saarthi_loads_total", outcome="refused") == 1)
        (half / "model.onnx").write_bytes(whole)
        wait_for(lambda: version(server) == "2")


def test_unsigned_torchscript_is_served_with_a_warning(original: Path, tmp_path: Path) -> None:
    scripted = write_tiny_bundle(tmp_path / "scripted", name="code")
    with serving(scripted, original) as server:
        warned = [line for line in server.log_lines() if "TorchScript" in line]
        assert len(warned) == 1 and "WARNING" in warned[0]
        assert "code, version 1, is TorchScript" in warned[0]
        assert "SAARTHI_TRUSTED_KEYS" in warned[0]


@pytest.mark.slow
def test_endless_torchscript_is_refused(tmp_path: Path) -> None:
    scripted = write_tiny_bundle(tmp_path / "scripted", name="code")
    bundle = bundle_with(scripted, tmp_path / "endless", endless_torchscript(), "model.pt")
    with pytest.raises(FailedVersionError, match="has not answered within 20 s"):
        Version.load(Source(str(bundle)), 1, trial=Trial(20))
