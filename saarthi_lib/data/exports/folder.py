"""Find the files of an export in a folder, and survey their content."""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from saarthi_lib.data.exports.reading import PLACES, Reading
from saarthi_lib.data.exports.registry import (
    ASIDE,
    EXPORTS,
    ROWS,
    SUFFIXES,
    contents_of,
    kind_of,
    leave_aside,
)
from saarthi_lib.data.formats.columns import BIO_LIKE, REJECTED, Columns
from saarthi_lib.errors import DataError
from saarthi_lib.layout import is_run
from saarthi_lib.tasks import OUTSIDE

MOST_FILES = 50_000
MOST_DEPTH = 12
_DATA = {*SUFFIXES, ".xlsx", ".parquet", ".zip"}
_NOT_DATA = {"node_modules", "site-packages"}
CONVERSION = "conversion.json"  # report that `saarthi convert` writes next to its rows

NameOf = Callable[[str], tuple[str, str]]  # split and language in the name of a file


class ExportFile(NamedTuple):
    """Rows of one split in a file; `parts` are the splits that these rows name, () all rows."""

    split: str
    path: Path
    language: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class ExportFolder:
    """Files of an export in a folder.

    Attributes:
        root: the folder or the only file.
        kind: the kind of export; "" without one.
        files: files with rows.
        aside: files with other parts, such as a domain or synonyms.
        others: other files of the folder whose names end like those of data.
    """

    root: Path
    kind: str = ""
    files: list[Path] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)

    def splits(self, name_of: NameOf, *, only_named: bool) -> list[ExportFile]:
        """The files by split: of their rows, else of their names, else train.

        Args:
            name_of: split and language in a name.
            only_named: whether files without a split in their name are left out; so they are if
                another name contains train.
        """
        if not self.kind:
            return []
        export = EXPORTS[self.kind]
        names = [
            self._named(path, name_of) if export.named else ("", "")  # else names of intents
            for path in self.files
        ]
        only_named |= any(split == "train" for split, _ in names)
        found: list[ExportFile] = []
        for path, (named, language) in zip(self.files, names, strict=True):
            in_set = (path.parent.parent / "dataset_dict.json").is_file()
            if not named and (only_named or in_set):
                continue
            default = named or "train"
            if not export.parted:
                found.append(ExportFile(default, path, language, ()))
                continue
            parts = contents_of(path, self.kind, Columns()).splits
            # Files without rows, such as synonyms, belong to none of the splits.
            for split in dict.fromkeys(part or default for part in parts):
                wanted = tuple(part for part in parts if (part or default) == split)
                found.append(ExportFile(split, path, language, wanted))
        return found

    def _named(self, path: Path, name_of: NameOf) -> tuple[str, str]:
        """Split and language in the names of a file and of the folders around it."""
        names = [path.stem]
        if path != self.root:
            names += reversed(path.relative_to(self.root).parent.parts)
        found = [name_of(name) for name in names]
        split = next((split for split, _ in found if split and path != self.root), "")
        return split, next((language for _, language in found if language), "")


def exports_in(root: Path, paths: Sequence[Path] | None = None) -> ExportFolder:
    """Find the export in a folder, or in a single file.

    Args:
        root: the folder or the file.
        paths: files to examine; None: all below the folder.

    Raises:
        DataError: the folder has several exports, or too many files.
    """
    by_kind: dict[str, list[Path]] = {}
    aside: dict[str, list[Path]] = {}
    if paths is None:
        paths = [root] if root.is_file() else _files(root)
    for path in paths:
        kind, part = kind_of(path)
        if part == ROWS:
            by_kind.setdefault(kind, []).append(path)
        elif part == ASIDE:
            aside.setdefault(kind, []).append(path)
    if len(by_kind) > 1:
        shown = " and ".join(
            f"{EXPORTS[kind].title} ({files[0].relative_to(root)})"
            for kind, files in by_kind.items()
        )
        raise DataError(f"{root}: has exports of {shown}; give the folder or file of one of them")
    for kind, files in by_kind.items():
        known = {*files, *aside.get(kind, [])}
        others = [path for path in paths if path not in known and path.suffix.lower() in _DATA]
        return ExportFolder(root, kind, files, aside.get(kind, []), others)
    return ExportFolder(root)


def leave_others(folder: ExportFolder, used: Collection[Path], reading: Reading) -> None:
    """Count the files that are not read; the used ones are those with rows of a split."""
    for path in folder.others:
        if path not in used and path.name != CONVERSION:
            reading.leave("file that is not part of the data", path)


def survey(folder: ExportFolder, columns: Columns) -> Reading:
    """Count the parts of an export that are not carried over, and collect its synonyms.

    Raises:
        DataError: a file cannot be read.
    """
    total = Reading(columns)
    for path in folder.files:
        add(total, contents_of(path, folder.kind, columns).reading, path)
    leave_aside(folder.aside, folder.kind, total)
    return total


def add(total: Reading, other: Reading, path: Path) -> None:
    """Add the parts and synonyms of another reading, of one file."""
    total.left.update(other.left)
    for kind, places in other.places.items():
        known = total.places.setdefault(kind, [])
        known += places[: PLACES - len(known)]
    for synonym, value in other.synonyms.items():
        total.synonym(value, synonym, path)


def left_report(reading: Reading, root: Path) -> dict[str, Any]:
    """The parts that are not carried over: their number, and the first places."""

    def shown(path: Path, place: str) -> str:
        inside = path != root and path.is_relative_to(root)
        name = path.relative_to(root).as_posix() if inside else path.name
        return f"{name}: {place}" if place else name

    return {
        kind: {"count": count, "places": [shown(*place) for place in reading.places[kind]]}
        for kind, count in reading.left.most_common()
    }


def export_task(folder: ExportFolder, paths: Iterable[Path], columns: Columns) -> str:
    """The task that the rows of an export show; see `detect.task.task_of`.

    Raises:
        DataError: labels and entities are missing in the rows.
    """
    found = [contents_of(p, folder.kind, replace(columns, sequence=True)) for p in paths]
    rows = sum(each.splits.total() - len(each.refused) for each in found)
    labelled = 2 * sum(each.labelled for each in found) > rows
    spans, tags = any(each.spans for each in found), {t for each in found for t in each.tags}
    refused = [fault for each in found for fault in each.refused if fault.kind != REJECTED]
    if not rows and refused:
        raise DataError(
            f"{folder.root}: no row can be taken over; the first, in row {refused[0].row}: "
            f"{refused[0].message}"
        )
    if not labelled and not spans and not tags:
        total = Reading()
        for each in found:
            total.left.update(each.reading.left)
        raise DataError(_nothing_labelled(folder.root, total))
    if tags and not spans and not _are_entities(tags) and not labelled:
        return "pos"
    if spans or tags:
        return "joint" if labelled else "ner"
    return "intent_classification"


def _nothing_labelled(source: Path, reading: Reading) -> str:
    """Error message for rows without labels and entities; names what they have instead."""
    kinds = ", ".join(f"{kind} ({count})" for kind, count in reading.left.most_common(5))
    instead = f"; not carried over: {kinds}" if kinds else ""
    return f"{source}: the rows have no label and no entities{instead}; label them first"


def _are_entities(tags: set[str]) -> bool:
    return OUTSIDE in tags or 2 * sum(bool(BIO_LIKE.fullmatch(tag)) for tag in tags) > len(tags)


def _files(root: Path) -> Sequence[Path]:
    """All files below a folder, sorted, without hidden ones and those of runs."""
    found: list[Path] = []
    for place, folders, names in os.walk(root):
        here = Path(place)
        depth = len(here.relative_to(root).parts)
        folders[:] = sorted(
            name
            for name in folders
            if name[0] not in "._"
            and name not in _NOT_DATA
            and depth < MOST_DEPTH
            and not is_run(here / name)
        )
        found += [here / name for name in sorted(names) if name[0] not in "._"]
        if len(found) > MOST_FILES:
            raise DataError(
                f"{root}: has more than {MOST_FILES} files; give the folder of the data"
            )
    return found
