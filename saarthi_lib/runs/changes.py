"""Why a step of an earlier run is not reused."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from saarthi_lib.config import NOT_IN_ARTIFACTS, TrainConfig
from saarthi_lib.config.changes import described
from saarthi_lib.layout import StepRecord, read_mapping
from saarthi_lib.storage import RECORD

CODE, DATA = "the code of Saarthi has changed", "the input data have changed"


def reason_to_rerun(
    folder: Path, earlier: StepRecord, now: StepRecord, config: TrainConfig, rerun: Iterable[str]
) -> str:
    """Why a step with another key or with damaged files is not reused.

    Args:
        folder: folder of the finished step.
        earlier: its record.
        now: record of the step in this run.
        config: the configuration, resolved as far as possible.
        rerun: names of the inputs of the step that were rerun.
    """
    if not (folder / RECORD).is_file():
        return "its files were removed"
    if earlier.get("key") == now["key"]:
        return "its files were changed or damaged"
    if earlier.get("code", "") != now["code"]:
        return CODE
    if earlier.get("data", now["data"]) != now["data"]:
        return DATA
    if changed := _changed(read_mapping(folder / RECORD).get("config", {}), config):
        return described(changed)
    if inputs := list(rerun):
        return f"these inputs were rerun: {', '.join(inputs)}"
    return "its inputs have changed"


def _changed(before: Any, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Fields of a step's record that have other values now."""
    left_out = {*NOT_IN_ARTIFACTS, "teacher_layer_to_distil", "start_from"}
    return {
        field: (value, getattr(config, field))
        for field, value in (before if isinstance(before, dict) else {}).items()
        if field in type(config).model_fields
        and field not in left_out
        and getattr(config, field) != value
    }
