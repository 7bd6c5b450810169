"""Names in a run's folder, and the files there that belong to the run.

A run replaces and deletes only what a run has made in its folder. `step.json` lists the files of a
step, `bundle.json` those of a bundle, and `run.json` the files and bundles at the top. Everything
else belongs to the user: a run stops before its first step instead of replacing it, and never
follows a link out of its folder.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from saarthi_lib.errors import ConfigError, StorageError
from saarthi_lib.logs import get_logger
from saarthi_lib.signing import SIGNATURE
from saarthi_lib.storage import RECORD, read_json

logger = get_logger("run")

DATA, OTHER_DATA = "data", "prepared-data"  # the second where the user has a folder `data`
SIGNALS, WORK, LOGS = "signals", "work", "logs"
RUN_BUNDLES = ("bundle-int8", "bundle-float16", "bundle")  # smallest first
TEACHER_BUNDLE = "teacher-bundle"
RUN, METRICS, REPORT = "run.json", "metrics.json", "report.html"
PREDICTIONS, EXPLANATIONS = "predictions.parquet", "explanations.html"
PIPELINE_LOG, SWEEP, SWEEP_PAGE = "pipeline.log", "sweep.json", "sweep.html"
KFP_FOLDER = ".kfp"  # the local pipeline keeps its artifacts there
LOCK = ".saarthi-lock"  # while a run works in the folder

_DELIVERED = {*RUN_BUNDLES, TEACHER_BUNDLE, RUN, METRICS, REPORT}
_TOP = _DELIVERED | {PREDICTIONS, EXPLANATIONS}  # what `run.json` lists
_OF_PIPELINE = {PIPELINE_LOG, SWEEP, SWEEP_PAGE}
_RESERVED = {DATA, OTHER_DATA, SIGNALS, WORK, LOGS, KFP_FOLDER, LOCK} | _TOP | _OF_PIPELINE
_WORK_STEPS = (
    "teacher-test",
    "exported",
    "quantised",
    "evaluation",
    "teacher-exported",
    "explanations",
)
_LISTS = (RECORD, "bundle.json")  # each lists the other files of its folder
_NOT_PLAIN = re.compile(r"[/\\:\x00-\x1f]|^[.\s]|[.\s]$")


def plain_folder_name(value: str) -> str:
    """Check the name of a folder in a run's folder.

    Raises:
        ValueError: it is a path or hidden, or the run uses the name itself.
    """
    if _NOT_PLAIN.search(value):
        raise ValueError("must be the plain name of a folder in root_output_path, not a path")
    if value.casefold() in _RESERVED:
        raise ValueError("the run uses this name itself; choose another one")
    return value


def data_folder(root: Path) -> Path:
    """The folder of a run's prepared data.

    It is `data`, or `prepared-data` where the user has a folder `data` beside the run.
    """
    return RunFolder(root).data


class RunFolder:
    """What belongs to a run in the folder where it works.

    Attributes:
        root: the run's folder; it need not exist yet.
        teacher: folder of the fine-tuned teacher.
        student: folder of the student's stages.
        record: content of `run.json`; empty where there is no readable one.
    """

    def __init__(self, root: Path, teacher: str = "teacher", student: str = "student") -> None:
        self.root = root
        self.teacher = root / teacher
        self.student = root / student
        self.record = _mapping(root / RUN)

    @property
    def data(self) -> Path:
        """The folder of the prepared data."""
        place = self.root / DATA
        return place if self._is_own_folder(place) else self.root / OTHER_DATA

    @property
    def made(self) -> set[str]:
        """Names of the files and bundles at the top that a run has made."""
        if self._steps:
            return {RUN, *self.record.get("made", _TOP)}  # earlier versions did not list them
        # A damaged run.json beside a step's folder was a run's.
        return _TOP if _listed(self.root / DATA) is not None else set()

    @property
    def _steps(self) -> dict[str, Any]:
        steps = self.record.get("steps")
        return steps if isinstance(steps, dict) else {}

    def require_own(self, input_path: str, *, teacher_exists: bool = False) -> None:
        """Check before the first step that a run replaces none of the user's files.

        A step's folder may hold files of the user as long as the step is not repeated.

        Args:
            input_path: the run's input; a local folder must lie outside what the run replaces.
            teacher_exists: the teacher is only read.

        Raises:
            ConfigError: the input lies where the run writes.
            StorageError: names the first file or folder that the run would replace.
        """
        source = Path(input_path)
        if source.is_dir() and self.root.is_dir() and source.samefile(self.root):
            raise ConfigError(
                f"root_output_path: {self.root} is the input's folder too; choose another one, "
                f"such as {self.root / 'run'}"
            )
        for place in self._places():
            if place == self.teacher and teacher_exists:
                continue
            if source.exists() and source.resolve().is_relative_to(place.resolve()):
                raise ConfigError(
                    f"input_path: {input_path} lies in {place}, which the run replaces; choose "
                    "another root_output_path"
                )
            self.require_free(place, deep=place.name in _TOP)

    def require_free(self, place: Path, *, deep: bool = True) -> None:
        """Check that nothing in a place belongs to the user.

        Args:
            place: a file or folder that the run is going to replace.
            deep: look into the folders that a run has made, too.

        Raises:
            StorageError: names the first file or folder that does.
        """
        if found := self._foreign(place, deep):
            raise StorageError(
                f"{found}: no run has made this, and the run would replace it; move it away, or "
                "choose another root_output_path"
            )

    def remove_all_but_deliverables(self, *, keep_teacher: bool) -> None:
        """Remove the run's own files, except bundles, metrics, report and record."""
        kept = {self.root / name for name in _DELIVERED}
        if keep_teacher:
            kept.add(self.teacher)
        places = [place for place in self._places() if place not in kept]
        self.remove([*places, self.student, self.root / WORK])

    def remove(self, places: Iterable[Path]) -> None:
        """Remove the run's own files in some places; whatever else is there stays."""
        removed = []
        for place in places:
            if os.path.lexists(place):
                self._remove(place)
                if os.path.lexists(place) and (place.is_symlink() or any(_files(place))):
                    logger.info("%s: kept, because it holds files that no run has made", place)
                else:
                    removed.append(place.relative_to(self.root).as_posix())
        if removed:
            logger.info("removed %s", ", ".join(sorted(removed)))

    def _places(self) -> Iterator[Path]:
        """Every file and folder that a run may replace."""
        yield self.data
        yield self.teacher
        yield self.root / SIGNALS
        yield from (self.student / f"stage_{number}" for number in range(1, 6))
        yield from (self.root / WORK / name for name in _WORK_STEPS)
        yield from (self.root / name for name in sorted({KFP_FOLDER} | _TOP | _OF_PIPELINE))

    def _is_own_file(self, place: Path) -> bool:
        if place.name in _OF_PIPELINE and not (self.root / KFP_FOLDER).is_symlink():
            return (self.root / KFP_FOLDER).is_dir()
        return place.name in self.made

    def _is_own_folder(self, place: Path) -> bool:
        """Whether a step's folder, if there is one, was made by a run."""
        if not os.path.lexists(place):
            return True
        if place.is_symlink():
            return self._is_artifact(place)
        return _name(place, self.root) in self._steps or _listed(place) is not None

    def _is_artifact(self, link: Path) -> bool:
        """Whether a link leads to an artifact of the local pipeline."""
        kfp = self.root / KFP_FOLDER
        return not kfp.is_symlink() and kfp.resolve() in link.resolve().parents

    def _foreign(self, place: Path, deep: bool) -> Path | None:
        """The first file or folder in a place that no run has made; None where there is none."""
        for parent in place.parents:
            if parent == self.root:
                break
            if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
                return parent
        if not os.path.lexists(place):
            return None
        if place.is_symlink():
            return None if self._is_artifact(place) else place
        if not place.is_dir():
            return None if self._is_own_file(place) else place
        listed = _listed(place)
        own = place.name == KFP_FOLDER or place.name in self.made or self._is_own_folder(place)
        if own and (listed is None or not deep):
            return None  # without a list: it is damaged, or the pipeline's
        known = listed or set()
        return next((file for file in _files(place) if _name(file, place) not in known), None)

    def _remove(self, place: Path) -> None:
        if place.is_symlink():
            if self._is_artifact(place):
                shutil.rmtree(place.resolve(), ignore_errors=True)
                place.unlink()
        elif place.is_file():
            if self._is_own_file(place):
                place.unlink()
        elif place.name == KFP_FOLDER:
            shutil.rmtree(place)
        else:
            listed = _listed(place) or set()
            for file in list(_files(place)):
                if _name(file, place) in listed:
                    file.unlink()
            for folder, _, _ in os.walk(place, topdown=False):
                with suppress(OSError):  # it is not empty
                    Path(folder).rmdir()


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
