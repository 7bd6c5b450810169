"""Real, small inputs that many tests share."""

import json
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from saarthi_lib import train
from saarthi_lib.data.home_assistant import write_home_assistant
from saarthi_lib.logs import get_logger

ROWS = {
    "en": {"train": 8, "validation": 3, "test": 4},
    "hi": {"train": 8, "validation": 3, "test": 4},
}

# A busy machine is no reason to fail.
hypothesis.settings.register_profile(
    "saarthi", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("saarthi")


@pytest.fixture(scope="session")
def home_assistant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small input folder of real utterances with intents and entities."""
    folder = tmp_path_factory.mktemp("home-assistant")
    write_home_assistant(folder, rows=ROWS, transfer_rows=50)
    return folder


@pytest.fixture
def fast(home_assistant: Path, tmp_path: Path) -> dict[str, Any]:
    """A configuration that goes the whole way in seconds, with a real teacher."""
    return fast_config(home_assistant, tmp_path / "run")


@pytest.fixture(scope="session")
def finished_run(home_assistant: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the joint task that went the whole way: for reading, not for writing into."""
    root = tmp_path_factory.mktemp("finished") / "run"
    return train({**fast_config(home_assistant, root), "task": "joint", "explained_errors": 3})


def fast_config(source: Path, root: Path) -> dict[str, Any]:
    """What `fast` gives."""
    return {
        "task": "intent_classification",
        "input_path": str(source),
        "root_output_path": str(root),
        "fast_dev_run": True,
        "precision": 32,
        "teacher_name": "minilm",
        "student_word_emb_dim": 16,
        "student_lstm_dim": 16,
        "student_batch_size": 32,
        "vocabulary_extra_pieces": 0,
        "explained_errors": 0,
    }


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the product logs, which by itself goes to its own handler alone."""
    logger = get_logger("run").parent
    assert logger is not None
    logger.propagate = True
    caplog.set_level("INFO", logger="saarthi")
    return caplog
