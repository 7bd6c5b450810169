"""Find the files of each split in an input folder, by their names."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from saarthi_lib.addresses import absent
from saarthi_lib.data.exports.folder import ExportFolder, exports_in
from saarthi_lib.data.exports.registry import kind_of
from saarthi_lib.data.formats import EXTENSIONS, Columns
from saarthi_lib.data.formats.delimited import first_lines, has_header
from saarthi_lib.data.formats.names import SIDECARS
from saarthi_lib.data.formats.recognize import COMPRESSED, recognize
from saarthi_lib.errors import DataError
from saarthi_lib.layout import is_run
from saarthi_lib.logs import get_logger
from saarthi_lib.text.language_names import LANGUAGE_NAMES, language_name

logger = get_logger("data")

# Words in the name of a file or folder that name a split.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test",),
    "transfer": ("transfer", "unlabelled", "unlabeled"),
    "clean": ("clean", "trusted"),
}

_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_LANGUAGES = {*LANGUAGE_NAMES.values()}
_UNIVERSAL_DEPENDENCIES = re.compile(r"([a-z]{2,3})_[a-z0-9]+-ud-([a-z]+)")
_NOT_DATA = {"readme", "license", "licence", "notice", "citation", "changelog", "copying", "notes"}
_NOT_DATA |= {"conversion"}  # the report of `saarthi convert`
_FILLERS = {"of", "part", "shard", "split", "set", "data", "dataset"}

_LISTED = 10  # files in an error


@dataclass(frozen=True)
class SplitFile:
    """A file of a split, and the language in its name ("" if the name contains none).

    Of an export with several splits, `parts` are the splits of the rows to read; () reads all.
    """

    path: Path
    language: str = ""
    parts: tuple[str, ...] = ()


def find_splits(
    folder: str | Path, format: str = "auto", *, log: bool = True
) -> dict[str, list[SplitFile]]:
    """Find the files of each split in an input folder; a single file belongs to train.

    File and folder names contain the split and the language: `train.csv`, `hindi-train.jsonl`,
    `test_en.csv`, `mr_ufal-ud-dev.conllu`, `train/part-0.parquet`, `hindi/train.conll`. Files whose
    name is a whole language (`hindi.conllu` next to `test.conllu`, not `hi.conllu`) belong to
    train. If all names lack a split, a single file or files with a language in their names do, too.
    Other files are ignored, and so are the folders of runs. Exports of other tools are found by
    content; next to a train file, only those whose names contain a split.

    Args:
        folder: the input folder, or a file.
        format: "auto", or the format of all files regardless of extension.
        log: whether to log the files and folders that are ignored.

    Returns:
        Files of each split found ("train", "validation", "test", "transfer", "clean"), sorted by
        name.

    Raises:
        DataError: the folder or a train file is missing, or two files differ only in extension.
    """
    root = Path(folder)
    runs: list[Path] = []
    files_here = [*_data_files(root, runs)] if root.is_dir() else []
    export = _export(root, files_here, format)
    if not root.is_dir() and not export.files:
        return {"train": [_single(root, log)]}
    skipped = {*export.files, *export.aside}
    unread: list[SplitFile] = []  # extensions that no format has
    found: dict[str, list[SplitFile]] = {split: [] for split in (*SPLIT_NAMES, "")}
    for path, split, language in files_here:
        if path not in skipped and path.name not in SIDECARS:
            readable = format != "auto" or path.suffix.lower() in EXTENSIONS
            (found[split] if readable else unread).append(SplitFile(path, language))
    others = found.pop("")
    named = [file for file in others if _is_language(file.path, root)]
    if not export.files and not any(found.values()) and _are_train(others):
        found["train"], others, named = others, [], []
    found["train"] = sorted([*found["train"], *named], key=lambda file: file.path)
    others = [*(file for file in others if file not in named), *_add_export(export, found)]
    if format == "auto":
        _check_classes(root, [file.path for file in found["train"]] or _first_files(root))
    if not found["train"]:
        seen = [*others, *(file for split in found.values() for file in split), *unread]
        names = [relative_name(p, root) for p in [each.path for each in seen] or _first_files(root)]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        also = f" (found: {', '.join(names[:_LISTED])}{more})" if names else ""
        raise DataError(
            f"{root}: no train file{also}; {_remedy(seen, root)}put in train with one of "
            f"{', '.join(EXTENSIONS)}"
        )
    if log:
        unread = [file for file in unread if _names_split(file.path)]
        _log_ignored(root, runs, named, others, unread)
    for split, files in found.items():
        _check_extensions(root, split, files)
    return {split: files for split, files in found.items() if files}


def _single(file: Path, log: bool) -> SplitFile:
    """A single input file; files of other splits in its folder are logged.

    Raises:
        DataError: the file is missing.
    """
    if not file.is_file():
        raise DataError(
            f"{file}: {absent(file)}"
            if file.exists()
            else f"{file}: there is no such folder; set input_path to the data's folder or file"
        )
    split, language = _split_and_language(file.stem)
    beside = sorted(file.parent.iterdir()) if log and split else ()
    known = (path for path in beside if path.suffix.lower() in EXTENSIONS and path.is_file())
    others = [path.name for path in known if _split_and_language(path.stem)[0] not in ("", split)]
    if others:
        logger.warning("%s: read alone; to use %s too, give the folder", file, ", ".join(others))
    return SplitFile(file, language)


def _log_ignored(
    root: Path,
    runs: Sequence[Path],
    named: Sequence[SplitFile],
    others: Sequence[SplitFile],
    unread: Sequence[SplitFile],
) -> None:
    """Log the folders of runs, files named after languages, and files that are ignored."""
    if runs:
        shown = ", ".join(relative_name(path, root) for path in runs)
        logger.info("%s: folders of runs are ignored: %s", root, shown)
    for files, fate in (
        (named, "read as train, named after languages"),
        (others, "ignored, names without a split"),
        (unread, "ignored, extensions that cannot be read"),
    ):
        if files:
            logger.warning("%s: %s: %s", root, fate, _listed(files, root))


def _add_export(export: ExportFolder, found: dict[str, list[SplitFile]]) -> list[SplitFile]:
    """Add the files of an export to the splits; returns those that are left out."""
    used: set[Path] = set()
    for file in export.splits(_split_and_language, only_named=bool(found["train"])):
        found[file.split].append(SplitFile(file.path, file.language, file.parts))
        used.add(file.path)
    return [SplitFile(path) for path in export.files if path not in used]


def _export(root: Path, files: Sequence[tuple[Path, str, str]], format: str) -> ExportFolder:
    """The export in a folder; next to a train file, only among files that name their split."""
    if format != "auto":
        return ExportFolder(root)
    named = [path for path, split, _ in files if split]
    trains = [path for path, split, _ in files if split == "train"]
    if any(path.suffix.lower() in EXTENSIONS and not kind_of(path)[0] for path in trains):
        return exports_in(root, named)
    return exports_in(root)


def lies_in_data(place: Path, folder: Path) -> bool:
    """Whether `find_splits` would take files in a place for data of an input folder.

    The place need not exist. Its name, or that of a folder around it, contains a split or language.
    """
    place, folder = place.resolve(), folder.resolve()
    if not place.is_relative_to(folder) or place == folder:
        return False
    first = place.relative_to(folder).parts[0]
    return not first.startswith((".", "_")) and any(_split_and_language(first))


def _data_files(root: Path, runs: list[Path]) -> Iterator[tuple[Path, str, str]]:
    """Candidate data files, each with the split and the language in its name.

    Args:
        root: the input folder.
        runs: list that receives the folders of runs, which are not searched.
    """
    paths = sorted(root.iterdir())
    by_language = any(path.is_dir() and _split_and_language(path.name)[1] for path in paths)
    for path in paths:
        if path.is_file() and _may_be_data(path):
            yield path, *_split_and_language(path.stem)
        elif path.is_dir() and not path.name.startswith((".", "_")):
            split, language = _split_and_language(path.name)
            known = split or language or (by_language and _repeats_name(path))
            inner = _files_below(path, runs) if known else []
            for file in filter(_may_be_data, inner):
                own_split, own_language = _split_and_language(file.stem)
                yield file, own_split or split, own_language or language


def _repeats_name(folder: Path) -> bool:
    """Whether the files of a folder repeat its name and name a split.

    Published sets have such folders next to those of languages: `MIX_Code_mixed/mix_train.conll`.
    """
    first = _parts(folder.name.lower())[:1]
    stems = [path.stem.lower() for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS]
    return any(_parts(stem)[:1] == first and _split_and_language(stem)[0] for stem in stems)


def _files_below(folder: Path, runs: list[Path]) -> list[Path]:
    """All files below a folder, sorted, except those of runs."""
    inner = [folder, *sorted(folder.rglob("*"))]
    found = [path for path in inner if path.is_dir() and is_run(path)]
    runs += [path for path in found if set(found).isdisjoint(path.parents)]
    return [path for path in inner if path.is_file() and set(found).isdisjoint(path.parents)]


def _may_be_data(path: Path) -> bool:
    """Whether a file is neither hidden nor the mark of an open workbook (`~$train.xlsx`)."""
    return not path.name.startswith((".", "_", "~$")) and path.stem.lower() not in _NOT_DATA


def _split_and_language(stem: str) -> tuple[str, str]:
    """Split and language in a file name; each is "" if the name lacks it."""
    stem = stem.lower()
    universal = _UNIVERSAL_DEPENDENCIES.fullmatch(stem)
    if universal and universal[2] in _SPLIT_OF:
        return _SPLIT_OF[universal[2]], language_name(universal[1])
    parts = _parts(stem)
    splits = [_SPLIT_OF[part] for part in parts if part in _SPLIT_OF]
    rest = [part for part in parts if part not in _SPLIT_OF]
    if len(splits) > 1 or (splits and _SPLIT_OF.keys().isdisjoint((parts[0], parts[-1]))):
        return "", ""
    return (splits[0] if splits else ""), _language_of(rest)


def _parts(stem: str) -> list[str]:
    return [
        part
        for part in re.split(r"[\W_]+", stem)
        if part and not part.isdigit() and part not in _FILLERS
    ]


def _are_train(files: Sequence[SplitFile]) -> bool:
    """Whether files without splits in their names are train: a single one, or named languages."""
    return len(files) == 1 or all(file.language for file in files)


def _is_language(path: Path, root: Path) -> bool:
    """Whether a file's name is a whole language ("id" is rather an identifier).

    A name without words (`hindi/part-1.csv`) has that of its folder.
    """
    parts = _parts(path.stem.lower()) or _parts(path.relative_to(root).parts[0].lower())
    return len(parts) == 1 and parts[0] in _LANGUAGES


def _language_of(parts: Sequence[str]) -> str:
    name = next((part for part in parts if part in _LANGUAGES), "")
    code = "-".join(parts)
    if not name and re.fullmatch(r"[a-z]{2,3}(-[a-z]{2}|-[a-z]{4})?", code):
        name = language_name(code)
    return name if name in _LANGUAGES else ""


def _names_split(path: Path) -> bool:
    return bool(_split_and_language(path.name.partition(".")[0])[0])


def _remedy(files: Sequence[SplitFile], root: Path) -> str:
    """Remedy for files whose content cannot be recognized: archives, and text in UTF-16."""
    for path in (file.path for file in files):
        if path.suffix.lower() in COMPRESSED:
            return f"unpack {relative_name(path, root)}, or "
        with path.open("rb") as file:
            if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                return f"save {relative_name(path, root)} with the encoding UTF-8, or "
    return ""


def _check_classes(root: Path, paths: Sequence[Path]) -> None:
    """Raise a DataError if files hold one text each, in a folder for each label."""
    texts = {path.parent: path for path in paths if path.suffix.lower() == ".txt"}
    names = {folder.name: path for folder, path in texts.items() if folder != root}
    names = {name: path for name, path in names.items() if not any(_split_and_language(name))}
    if len(names) > 1 and len(paths) > len(names) and all(map(_is_text, names.values())):
        raise DataError(
            f"{root}: has a text in each file, in folders named after labels "
            f"({', '.join([*names][:_LISTED])}); write one table instead: train.csv with the "
            "columns text and label, a row for each file with the name of its folder as label"
        )


def _is_text(path: Path) -> bool:
    """Whether a text file is neither a table nor tagged words nor an export."""
    sample = first_lines(path)
    plain = "\t" not in sample and not has_header(sample, Columns())
    return plain and recognize(path, Columns()) == "tsv"


def _first_files(root: Path) -> list[Path]:
    """Some files below a folder, also those that are not searched for data."""
    below = (path for path in root.rglob("*") if path.is_file() and path.name[0] != ".")
    return [*islice(below, _LISTED)]


def _listed(files: Sequence[SplitFile], root: Path) -> str:
    return ", ".join(relative_name(file.path, root) for file in files)


def _check_extensions(root: Path, split: str, files: Sequence[SplitFile]) -> None:
    first: dict[Path, Path] = {}
    for path in (file.path for file in files):
        other = first.setdefault(path.with_suffix(""), path)
        if other is not path:
            listed = f"{relative_name(other, root)}, {relative_name(path, root)}"
            raise DataError(f"{root}: several files for the {split} split ({listed}); keep one")


def relative_name(path: Path, root: Path | None) -> str:
    """Name of a file, relative to the input folder if given."""
    return path.relative_to(root).as_posix() if root and root != path else path.name
