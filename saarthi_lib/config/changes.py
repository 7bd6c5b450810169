"""Fields that differ between a configuration and that of an earlier run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saarthi_lib.config import DEFAULT_LAYER, NOT_IN_ARTIFACTS, TrainConfig
from saarthi_lib.layout import RunRecord

# Places and devices: two runs that differ only in them have the same results. The digest of the
# data covers their path.
_PLACES = frozenset(
    (
        *(*NOT_IN_ARTIFACTS, "input_path", "device", "teacher_devices", "teacher_exists"),
        *("teacher_output_folder", "student_output_folder"),
    )
)


def changed_fields(
    config: TrainConfig, earlier: RunRecord, *sections: str
) -> dict[str, tuple[Any, Any]]:
    """Fields of these sections whose value differs from that of an earlier run.

    A field that the recipe chose in both runs follows from the data, and does not count.

    Args:
        config: the configuration; resolved, if the data are known.
        earlier: record of the earlier run.
        sections: sections to compare.

    Returns:
        The values before and now, by field.
    """
    before, chosen = earlier.get("config", {}), {*earlier.get("recipe", {})}
    if before.get("teacher_layer_to_distil") in (DEFAULT_LAYER, []):
        chosen.add("teacher_layer_to_distil")  # follows from the schedule
    changed = {}
    for field, value in config.section(*sections).items():
        is_open = field in config.reasons or field not in config.model_fields_set
        if field in _PLACES or field not in before or (field in chosen and is_open):
            continue
        if field.endswith("_column") and not value:  # the run has detected it
            continue
        if field == "start_from" and _same_place(before[field], value):
            continue
        if before[field] != value:
            changed[field] = (before[field], value)
    return changed


def _same_place(one: str, other: str) -> bool:
    return bool(one and other) and Path(one).resolve() == Path(other).resolve()


def described(changed: Mapping[str, tuple[Any, Any]], most: int = 3) -> str:
    """Changed fields with their values before and now, in one line; the first ones of many."""
    parts = [f"{field} {before} → {now}" for field, (before, now) in changed.items()]
    more = f" and {len(parts) - most} more fields" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more
