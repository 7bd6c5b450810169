"""Real, small inputs that many tests share."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from saarthi_lib import train
from saarthi_lib.bundle import read_manifest
from saarthi_lib.config import TrainConfig
from saarthi_lib.demo.home_assistant import write_home_assistant
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import alone

if TYPE_CHECKING:
    from tests.stores.s3 import S3Bucket

ROWS = {
    "en": {"train": 8, "validation": 3, "test": 4},
    "hi": {"train": 8, "validation": 3, "test": 4},
}

# Makes a run of `fast` a real one, which can be published, and takes about as long.
REAL: dict[str, Any] = {
    "fast_dev_run": False,
    "few_shot": 1,
    "teacher_epochs": 1,
    "student_epochs": 1,
    "augmentation_size": 64,
    "max_quantization_loss": 1.0,
}

# Tests must not fail on a busy machine, nor on inputs that an earlier run did not try: `make test`
# tries the same inputs each time, `make test-all` searches new ones.
hypothesis.settings.register_profile(
    "search", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "same", hypothesis.settings.get_profile("search"), derandomize=True, database=None
)
hypothesis.settings.load_profile("same")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A read-only folder that one worker makes and all workers of the session share.

    Args:
        factory: pytest's factory of temporary folders.
        name: name of the folder.
        make: function that writes the folder.
    """
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, done = shared / name, shared / f"{name}.done"
    with alone(shared / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def home_assistant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small input folder of real utterances with intents and entities."""
    return made_once(
        tmp_path_factory,
        "home-assistant",
        lambda folder: write_home_assistant(folder, rows=ROWS, transfer_rows=50),
    )


@pytest.fixture
def fast(home_assistant: Path, tmp_path: Path) -> dict[str, Any]:
    """A configuration of all steps that takes seconds, with a real teacher."""
    return fast_config(home_assistant, tmp_path / "run")


@pytest.fixture(scope="session")
def trained_once(home_assistant: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `fast`, read-only."""
    return made_once(
        tmp_path_factory, "trained", lambda root: train(fast_config(home_assistant, root))
    )


@pytest.fixture
def trained(trained_once: Path, fast: dict[str, Any]) -> Path:
    """The run of `fast` in its own folder: another `train(fast)` reuses its steps."""
    return Path(shutil.copytree(trained_once, fast["root_output_path"]))


@pytest.fixture(scope="session")
def finished_run(home_assistant: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the joint task with explanations, read-only."""

    def make(root: Path) -> None:
        train({**fast_config(home_assistant, root), "task": "joint", "explained_errors": 3})

    return made_once(tmp_path_factory, "finished", make)


def fast_config(source: Path, root: Path) -> dict[str, Any]:
    """The configuration of `fast`, with a value other than the default in every section."""
    return {
        "task": "intent_classification",
        "input_path": str(source),
        "root_output_path": str(root),
        "fast_dev_run": True,
        "precision": 32,
        "teacher_name": "minilm",
        "teacher_ensemble": 1,
        "student_word_emb_dim": 16,
        "student_lstm_dim": 16,
        "student_batch_size": 32,
        "vocabulary_extra_tokens": 0,
        "normalization": "romanized",
        "explained_errors": 0,
        "abstention_coverage": 0.9,
    }


def reading(task: str, **fields: Any) -> TrainConfig:
    """Configuration for reading text as it is written."""
    return TrainConfig.from_mapping({"task": task, "normalization": "none", **fields})


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def bundle_digests(bundle: Path) -> dict[str, str]:
    """Digests of a bundle's files, except `model.pt`.

    In that file, torch numbers classes after those that the process has scripted before.
    """
    files = read_manifest(bundle).files
    return {name: file.sha256 for name, file in files.items() if name != "model.pt"}


@pytest.fixture
def told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """The log of the library, whose logger has its own handler."""
    logger = get_logger("run").parent
    assert logger is not None
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level("INFO", logger="saarthi")
    return caplog


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """Address of a real S3 server in a process of its own."""
    from tests.stores.s3 import s3_server

    with s3_server() as url:
        yield url


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> "S3Bucket":
    """An empty bucket on S3 for the test."""
    from tests.stores.s3 import S3Bucket, use_server

    use_server(monkeypatch, s3_url)
    return S3Bucket(s3_url)
