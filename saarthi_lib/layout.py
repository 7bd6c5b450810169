"""Names in a run's folder, and the files there that belong to the run.

A run replaces and deletes only its own files. The field `made` of `run.json` names the files, steps
and bundles that runs have made. `step.json` lists the files of a step, and `bundle.json` those of a
bundle. Everything else belongs to the user: a run stops instead of replacing it, and follows no
link out of its folder.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from saarthi_lib.errors import ConfigError, StorageError
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import RECORD, read_json, write_json

logger = get_logger("run")

DATA, OTHER_DATA = "data", "prepared-data"  # the second where the user has a folder `data`
SIGNALS, WORK, LOGS = "signals", "work", "logs"
RUN_BUNDLES = ("bundle-int8", "bundle-float16", "bundle")  # smallest first
TEACHER_BUNDLE = "teacher-bundle"
RUN, METRICS, REPORT = "run.json", "metrics.json", "report.html"
CONFIG = "config.yaml"  # written by `saarthi train DATA`, for the user to edit
PREDICTIONS, EXPLANATIONS = "predictions.parquet", "explanations.html"
PIPELINE_LOG, SWEEP, SWEEP_PAGE = "pipeline.log", "sweep.json", "sweep.html"
KFP_FOLDER = ".kfp"  # the local pipeline keeps its artifacts there
LOCK = ".saarthi-lock"  # while a run works in the folder

_DELIVERED = {*RUN_BUNDLES, TEACHER_BUNDLE, RUN, METRICS, REPORT, CONFIG}
_ALWAYS = (RUN, METRICS, REPORT, PREDICTIONS)  # files of every run
_OF_PIPELINE = (PIPELINE_LOG, SWEEP, SWEEP_PAGE)
_RESERVED = {DATA, OTHER_DATA, SIGNALS, WORK, LOGS, KFP_FOLDER, LOCK, EXPLANATIONS}
_RESERVED |= {*_DELIVERED, *_ALWAYS, *_OF_PIPELINE}
_WORK_STEPS = (
    "teacher-test",
    "exported",
    "quantized",
    "quantised",  # of earlier versions
    "evaluation",
    "teacher-exported",
    "explanations",
)
MANIFEST, SIGNATURE = "bundle.json", "bundle.sig"  # of a bundle
_LISTS = (RECORD, MANIFEST)  # each lists the other files of its folder
_OWNER = "saarthi.txt"  # in the pipeline's folder: its path, and proof that a run has made it
# Names in configurations, bundles and runs of earlier versions, with the present ones.
_RENAMED_FIELDS = {
    "normalisation": "normalization",
    "max_quantisation_loss": "max_quantization_loss",
    "vocabulary_extra_pieces": "vocabulary_extra_tokens",
}
_RENAMED_VALUES = {
    ("normalization", "romanised"): "romanized",
    ("representation_loss", "normalised_mse"): "normalized_mse",
}
_NOT_PLAIN = re.compile(r"[/\\:\x00-\x1f]|^[.\s]|[.\s]$|.{101}", re.DOTALL)


def current_names(fields: Mapping[str, Any], source: str = "") -> dict[str, Any]:
    """Rename fields and values of earlier versions.

    Args:
        fields: fields of a configuration, a manifest or a step.
        source: name of the fields in a warning about earlier names; empty: no warning.
    """
    current: dict[str, Any] = {}
    for given, value in fields.items():
        name = _RENAMED_FIELDS.get(given, given)
        if given != name and name in fields:
            continue
        if source and given != name:
            logger.warning("%s: the field %s is now called %s", source, given, name)
        now = _RENAMED_VALUES.get((name, value), value) if isinstance(value, str) else value
        if source and now != value:
            logger.warning("%s: %s: the value %s is now called %s", source, name, value, now)
        current[name] = now
    return current


def plain_folder_name(value: str) -> str:
    """Check the name of a folder in a run's folder.

    Raises:
        ValueError: it is a path, hidden or too long, or the run uses the name itself.
    """
    if _NOT_PLAIN.search(value):
        raise ValueError("must be the plain name of a folder in root_output_path, not a path")
    if value.casefold() in _RESERVED:
        raise ValueError("the run uses this name itself; choose another one")
    return value


def data_folder(root: Path) -> Path:
    """The folder of a run's prepared data.

    It is `data`, or `prepared-data` where the user has a folder `data` in the run's folder.
    """
    return RunFolder(root).data


def is_run(folder: Path) -> bool:
    """Whether a folder is the folder of a run: its `run.json` is the record of one."""
    return not _mapping(folder / RUN).keys().isdisjoint(("made", "steps"))


class RunFolder:
    """The files of a run in the folder where it works.

    Attributes:
        root: the run's folder; it need not exist yet.
        teacher: folder of the fine-tuned teacher.
        student: folder of the student's stages.
        trial: whether the run that is going to work here is a trial.
        record: content of `run.json`; empty where it is missing or damaged.
        made: names of the files, steps and bundles that runs have made here, relative to `root`.
    """

    def __init__(
        self,
        root: Path,
        teacher: str = "teacher",
        student: str = "student",
        *,
        trial: bool = False,
    ) -> None:
        self.root = root
        self.trial = trial
        self.teacher = root / teacher
        self.student = root / student
        self.record = _mapping(root / RUN)
        self.made = self._made()

    @property
    def data(self) -> Path:
        """The folder of the prepared data."""
        place, other = self.root / DATA, self.root / OTHER_DATA
        if OTHER_DATA in self.made and other.is_dir():
            return other
        return place if self._foreign(place, deep=False) is None else other

    def require_own(
        self,
        input_path: str,
        names: Iterable[str] = (),
        *,
        teacher_exists: bool = False,
        repeats_steps: bool = False,
    ) -> None:
        """Check before the first step that a run replaces none of the user's files.

        A step's folder may hold files of the user as long as the step is not repeated.

        Args:
            input_path: the run's input; a local folder must lie outside the run's own folders.
            names: the files and bundles at the top that the run will write besides those of every
                run.
            teacher_exists: the teacher is only read.
            repeats_steps: the run replaces the folder of every step.

        Raises:
            ConfigError: the input lies where the run writes, or a trial would replace the results
                of a real run.
            StorageError: names the first file or folder that the run would replace.
        """
        source = Path(input_path)
        if source.is_dir() and self.root.is_dir() and source.samefile(self.root):
            beside = self.root.resolve().with_name(f"{self.root.resolve().name}-run")
            raise ConfigError(
                f"root_output_path: {self.root} is the input's folder too; choose another one, "
                f"such as {beside}"
            )
        results = _mapping(self.root / METRICS)
        if self.trial and METRICS in self.made and results and not results.get("trial"):
            raise ConfigError(
                f"{self.root}: holds a finished run, and a trial (fast_dev_run: true) would "
                "replace its results; choose another root_output_path (--output)"
            )
        steps = [place for place in self._steps() if place != self.teacher or not teacher_exists]
        inner = [self.root / WORK, self.root / KFP_FOLDER]
        deliverables = [self.root / name for name in (*_ALWAYS, *names)]
        for place in (*steps, *deliverables, self.student, *inner):
            if source.exists() and source.resolve().is_relative_to(place.resolve()):
                raise ConfigError(
                    f"input_path: {input_path} lies in {place}, where the run writes; choose "
                    "another root_output_path"
                )
        for place in steps:
            self.require_free(place, deep=repeats_steps)
        for place in deliverables:
            self.require_free(place)

    def require_free(self, place: Path, *, deep: bool = True) -> None:
        """Check that nothing in a place belongs to the user.

        Args:
            place: a file or folder that the run is going to replace.
            deep: look into folders that a run has made, too.

        Raises:
            StorageError: names the first file or folder that does.
        """
        if found := self._foreign(place, deep=deep):
            raise StorageError(
                f"{found}: no run has made this, and the run would replace it; move it away, or "
                "choose another root_output_path"
            )

    def claim(self, *places: Path) -> None:
        """Count some places as the run's own, which is going to write them.

        Raises:
            StorageError: one of them belongs to the user.
        """
        for place in places:
            self.require_free(place)
            self.made.add(_name(place, self.root))

    def save(self, record: dict[str, Any]) -> None:
        """Write `run.json`: the record, and the names of what runs have made."""
        self.record = {**record, "made": sorted(self.made - {RUN})}
        write_json(self.root / RUN, self.record)
        self.made.add(RUN)

    def own_pipeline_folder(self) -> Path:
        """The folder of the local pipeline's artifacts, made if need be.

        KFP's cache holds absolute paths; a folder that was moved or copied starts without one.

        Raises:
            StorageError: the user has a file, link or folder of that name.
        """
        folder = self.root / KFP_FOLDER
        self.require_free(folder)
        folder.mkdir(exist_ok=True)
        path, owner = str(folder.resolve()), folder / _OWNER
        if not owner.exists() or owner.read_text(encoding="utf-8") != path:
            _remove_files(folder / "cache", lambda file: True)
            owner.write_text(path, encoding="utf-8")
        return folder

    def remove_all_but_deliverables(self, *, keep_teacher: bool) -> None:
        """Remove the run's own files, except bundles, metrics, report and record."""
        kept = {self.root / name for name in _DELIVERED}
        if keep_teacher:
            kept.add(self.teacher)
        places = {*self._steps(), *(self.root / name for name in (*self.made, *_OF_PIPELINE))}
        # The pipeline's folder comes last: it shows that links and logs are the run's.
        self.remove([*sorted(places - kept), self.root / KFP_FOLDER])

    def remove(self, places: Iterable[Path]) -> None:
        """Remove the run's own files in some places; the user's files there stay."""
        removed = []
        for place in places:
            if not os.path.lexists(place):
                self.made.discard(_name(place, self.root))
                continue
            self._remove(place)
            if os.path.lexists(place):
                logger.info("%s: kept, because it holds files that no run has made", place)
            else:
                removed.append(_name(place, self.root))
                self.made.discard(removed[-1])
        for folder in (self.student, self.root / WORK):
            with suppress(OSError):  # it is missing or not empty
                folder.rmdir()
        if removed:
            logger.info("removed %s", ", ".join(removed))

    def _made(self) -> set[str]:
        names = self.record.get("made")
        if isinstance(names, list):
            inside = (name for name in names if isinstance(name, str) and _is_inside(name))
            return {RUN, *inside}
        if not (self.root / RUN).is_file():
            return set()
        # The record is damaged, or of an earlier version: the lists in the folders are proof.
        top = (self.root / name for name in (DATA, OTHER_DATA, *sorted(_DELIVERED)))
        places = [*self._steps_after_data(), *top]
        found = {_name(place, self.root) for place in places if _listed(place) is not None}
        return {*found, *_ALWAYS, EXPLANATIONS} if found else set()

    def _steps(self) -> Iterator[Path]:
        """The folder of every step."""
        yield self.data
        yield from self._steps_after_data()

    def _steps_after_data(self) -> Iterator[Path]:
        yield self.teacher
        yield self.root / SIGNALS
        yield from (self.student / f"stage_{number}" for number in range(1, 6))
        yield from (self.root / WORK / name for name in _WORK_STEPS)

    def _has_pipeline(self) -> bool:
        folder = self.root / KFP_FOLDER
        if folder.is_symlink():
            return False
        # Earlier versions left KFP's cache there, but no file of this name.
        return (folder / _OWNER).is_file() or (folder / "cache").is_dir()

    def _is_artifact(self, link: Path) -> bool:
        """Whether a link leads to an artifact of the local pipeline."""
        return self._has_pipeline() and (self.root / KFP_FOLDER).resolve() in link.resolve().parents

    def _foreign(self, place: Path, *, deep: bool = True) -> Path | None:
        """First file or folder in a place that no run has made; None if runs have made all."""
        for parent in place.parents:
            if parent == self.root:
                break
            if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
                return parent
        if not os.path.lexists(place):
            return None
        if place.is_symlink():
            return None if self._is_artifact(place) else place
        name = _name(place, self.root)
        if not place.is_dir():
            own = name in self.made or (name in _OF_PIPELINE and self._has_pipeline())
            return None if own else place
        if name == KFP_FOLDER and self._has_pipeline():
            return None
        if name in self.made and any((place / each).exists() for each in _LISTS):
            listed = _listed(place)
            if listed is None or not deep:
                return None  # without a list that can be read the step is repeated
        else:
            listed = set()
        return next((file for file in _files(place) if _name(file, place) not in listed), None)

    def _remove(self, place: Path) -> None:
        if self._foreign(place, deep=False):
            return
        if place.is_symlink():
            _remove_listed(place.resolve())
            place.unlink()
        elif not place.is_dir():
            place.unlink()
        elif place.name == KFP_FOLDER:
            _remove_pipeline(place)
        elif _name(place, self.root) in self.made:
            _remove_listed(place)


def _remove_pipeline(folder: Path) -> None:
    """Remove the local pipeline's folder, except files that the user has added to artifacts."""
    for record in list(folder.rglob(RECORD)):
        _remove_listed(record.parent)
    kept = {file for record in folder.rglob(RECORD) for file in _files(record.parent)}
    _remove_files(folder, lambda file: file not in kept)


def _remove_listed(folder: Path) -> None:
    """Remove the files of a step or a bundle that its list names.

    The list stays with files that it does not name: it shows later that they are the user's.
    """
    listed = _listed(folder) or set()
    if any(_name(file, folder) not in listed for file in _files(folder)):
        listed -= {*_LISTS}
    _remove_files(folder, lambda file: _name(file, folder) in listed)


def _remove_files(folder: Path, chosen: Callable[[Path], bool]) -> None:
    """Remove chosen files below a folder, and then every empty folder."""
    for file in list(_files(folder)):
        if chosen(file):
            file.unlink()
    for parent, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # it is not empty
            Path(parent).rmdir()


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _files(folder: Path) -> Iterator[Path]:
    """Every file and link below a folder, without following links."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in (*files, *links))


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _listed(folder: Path) -> set[str] | None:
    """Names of the run's files in a step's folder or a bundle; None where nothing lists them."""
    for name in _LISTS:
        files = _mapping(folder / name).get("files")
        if isinstance(files, dict):
            return {*files, name, SIGNATURE}
    return None


def _mapping(file: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing or holds something else."""
    try:
        content = read_json(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
