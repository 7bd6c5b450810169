"""Check files that earlier runs stored: each field has its type, and numbers are usable."""

import math
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from saarthi_lib.errors import ArtifactError, ConfigError
from saarthi_lib.layout import MANIFEST, RunLayout, RunRecord, read_record
from saarthi_lib.storage import read_json

LARGEST = 1e18  # of any number
_REMEDY = "restore the file, or train the run again"
_NAMES = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}


def read_stored(path: Path, shape: Any) -> Any:
    """Read a JSON file whose content is a TypedDict; unknown fields are kept unchecked.

    Raises:
        ArtifactError: names the file, and the field that is missing or has another type.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); {_REMEDY}") from None
    for fault in _faults(content, shape, ""):
        raise ArtifactError(f"{path}: {fault}; {_REMEDY}")
    return content


def finished_record(folder: Path) -> RunRecord:
    """Read `run.json` of a finished run.

    Raises:
        ConfigError: the folder is not a finished run.
        ArtifactError: the file is damaged.
    """
    layout = RunLayout(folder)
    if os.path.lexists(folder / MANIFEST):
        raise ConfigError(f"{folder}: is not a finished run, but a bundle; give the run's folder")
    if not os.path.lexists(layout.record):
        raise ConfigError(f"{folder}: is not a finished run; train one first")
    read_stored(layout.record, RunRecord)
    record = read_record(folder)
    if "config" not in record:
        raise ConfigError(f"{folder}: is not a finished run; train one first")
    if not os.path.lexists(layout.metrics):
        raise ConfigError(
            f"{folder}: is not a finished run, since it has no {layout.metrics.name}; train it "
            "again: finished steps are reused"
        )
    return record


@cache
def _fields(shape: type) -> dict[str, tuple[Any, bool]]:
    """Type of each field, and whether it is required."""
    hints = get_type_hints(shape, include_extras=True)
    optional: frozenset[str] = getattr(shape, "__optional_keys__", frozenset())
    return {
        name: (
            get_args(hint)[0] if get_origin(hint) is NotRequired else hint,
            name not in optional and get_origin(hint) is not NotRequired,
        )
        for name, hint in hints.items()
    }


def _faults(value: Any, shape: Any, place: str) -> Iterator[str]:
    """Faults of a value, as text."""
    kind = get_origin(shape)
    if kind in (Union, UnionType):
        choices = [each for each in get_args(shape) if each is not NoneType]
        if value is not None or len(choices) == len(get_args(shape)):
            yield from _faults(value, choices[0], place)
    elif is_typeddict(shape) or kind is dict:
        if not isinstance(value, Mapping):
            yield _wrong(place, "an object")
        elif kind is dict:
            for name, each in value.items():
                yield from _faults(each, get_args(shape)[1], f"{place}.{name}")
        else:
            for name, (each, required) in _fields(shape).items():
                if name in value:
                    if required or value[name] is not None:
                        yield from _faults(value[name], each, f"{place}.{name}")
                elif required:
                    yield f"the field {f'{place}.{name}'[1:]} is missing"
    elif kind is list:
        if not isinstance(value, list):
            yield _wrong(place, "a list")
        else:
            for number, each in enumerate(value):
                yield from _faults(each, get_args(shape)[0], f"{place}.{number}")
    elif shape in _NAMES and not _is(value, shape):
        yield _wrong(place, _NAMES[shape])


def _is(value: Any, kind: type) -> bool:
    if kind not in (int, float):
        return isinstance(value, kind)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, int):
        return abs(value) <= LARGEST
    whole = kind is float or value.is_integer()
    return whole and (math.isnan(value) or abs(value) <= LARGEST)


def _wrong(place: str, expected: str) -> str:
    return f"{place[1:] or 'its content'} must be {expected}"
