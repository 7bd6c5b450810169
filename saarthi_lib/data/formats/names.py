"""Names of numbered labels and tags, as Hugging Face data sets keep them."""

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from saarthi_lib.data.formats.cells import BadCellError
from saarthi_lib.errors import DataError

SIDECAR = "dataset_info.json"
SIDECARS = (SIDECAR, "dataset_infos.json")  # the second one for all configurations


def class_names(path: Path, format: str) -> dict[str, list[str]]:
    """Names of classes by column, from the file's metadata or one of `SIDECARS` near it.

    Raises:
        DataError: one of `SIDECARS` cannot be read.
    """
    if format == "parquet" and (found := _from_metadata(path)):
        return found
    for folder, name in product((path.parent, path.parent.parent), SIDECARS):
        sidecar = folder / name
        if sidecar.is_file():
            try:
                info = json.loads(sidecar.read_text(encoding="utf-8-sig"))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{sidecar}: cannot be read ({error}); correct it") from None
            return _names_in(info)
    return {}


def name_of(names: Sequence[str], number: Any) -> str:
    """Name of a class.

    Raises:
        BadCellError: the class lacks a name.
    """
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise BadCellError(f"the class {number!r} is not one of 0 to {len(names) - 1}; correct it")
    return names[number]


def _from_metadata(path: Path) -> dict[str, list[str]]:
    import pyarrow
    from pyarrow import parquet

    try:
        metadata = parquet.read_schema(path).metadata or {}
        return _names_in(json.loads(metadata.get(b"huggingface", b"{}")).get("info"))
    except (pyarrow.ArrowException, OSError, ValueError, AttributeError, RecursionError):
        return {}


def _names_in(info: Any) -> dict[str, list[str]]:
    """Names by column, in `features` or in that of the only configuration."""
    if not isinstance(info, Mapping):
        return {}
    features = info.get("features")
    if features is None and len(info) == 1:
        return _names_in(next(iter(info.values())))
    if isinstance(features, list):  # the form in the head of a data card
        features = {each.get("name"): each for each in features if isinstance(each, Mapping)}
    if not isinstance(features, Mapping):
        return {}
    found = {str(column): _class_names(feature) for column, feature in features.items()}
    return {column: names for column, names in found.items() if names}


def _class_names(feature: Any, depth: int = 0) -> list[str]:
    """Names of a class label, perhaps inside a sequence."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if not isinstance(feature, Mapping) or depth > 4:
        return []
    names = feature.get("names")
    if isinstance(names, Mapping):  # numbers and names
        names = [names[key] for key in sorted(names, key=lambda key: int(str(key)))]
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    for key in ("feature", "sequence", "dtype", "class_label"):
        if found := _class_names(feature.get(key), depth + 1):
            return found
    return []
