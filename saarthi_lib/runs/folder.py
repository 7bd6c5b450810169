"""Ownership of the files in a run's folder.

A run replaces and deletes only its own files. The field `made` of `run.json` names the files, steps
and bundles that runs have made. `step.json` lists the files of a step, and `bundle.json` those of a
bundle. All other files belong to the user. A run stops before it replaces one, and follows no link
out of its folder.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Self

from saarthi_lib.addresses import is_utf8
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError, StorageError
from saarthi_lib.layout import (
    DATA,
    MANIFEST,
    OTHER_DATA,
    SIGNATURE,
    RunLayout,
    RunRecord,
    read_mapping,
    read_record,
)
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import RECORD, alone, remove_leftovers, write_json

logger = get_logger("run")

_LISTS = (RECORD, MANIFEST)  # each lists the other files of its folder
_OWNER = "saarthi.txt"  # in the pipeline's folder: its path, and proof that a run has made it


@contextmanager
def at_work(root: Path) -> Iterator[Path]:
    """Lock a run's folder for the block, and remove half-written files of killed runs.

    Yields the path for the work, see `in_utf8`.

    Raises:
        StorageError: another run works in the folder, or it is not writable.
    """
    with alone(RunLayout(root).lock, wait=False):
        remove_leftovers(root)
        with in_utf8(root) as place:
            yield place


@contextmanager
def in_utf8(folder: Path) -> Iterator[Path]:
    """Yield a path of a folder that libraries of training can use: they need UTF-8.

    A folder with another name gets a temporary link.
    """
    if is_utf8(folder):
        yield folder
        return
    with TemporaryDirectory(prefix="saarthi-run-") as scratch:
        link = Path(scratch) / "run"
        link.symlink_to(folder.absolute())
        yield link


def deliverables(config: TrainConfig, layout: RunLayout) -> list[Path]:
    """Files and bundles that a run with this configuration leaves for the user."""
    places = [layout.record, layout.metrics, layout.report, layout.predictions, layout.bundle]
    if config.quantization:
        places.append(layout.quantized_bundle(config.quantization))
    if config.torchscript and config.distillation:
        places.append(layout.teacher_bundle)
    if config.explained_errors:
        places.append(layout.explanations)
    return places


class RunFolder:
    """The files of a run in the folder where it works.

    Attributes:
        layout: paths in the folder.
        record: content of `run.json`, which `save` writes; empty if it is missing or damaged.
        made: names of the files, steps and bundles that runs have made here, relative to the root.
    """

    def __init__(self, layout: RunLayout) -> None:
        self.layout = layout
        self.root = layout.root
        self.record: RunRecord = read_record(self.root)
        self.made = self._made()
        # The user may have a folder `data`. Later runs use the folder that the first one has made.
        users = self._foreign(self.root / DATA, deep=False) is not None
        made = OTHER_DATA in self.made and (self.root / OTHER_DATA).is_dir()
        self.layout = replace(layout, data_name=OTHER_DATA if users or made else DATA)

    @classmethod
    def of(cls, config: TrainConfig, root: Path | None = None) -> Self:
        """The folder of a run with this configuration.

        Args:
            config: the whole configuration.
            root: the run's folder; None: the one that the configuration names.
        """
        root = root or Path(config.root_output_path)
        return cls(RunLayout(root, config.teacher_output_folder, config.student_output_folder))

    def require_own(self, config: TrainConfig, *others: Path, repeats_steps: bool = False) -> None:
        """Check before the first step that a run replaces none of the user's files.

        The folder of a step may hold files of the user as long as the step is not repeated.

        Args:
            config: the run's configuration. A local input must lie outside the run's own folders.
            others: files that the run writes besides its deliverables.
            repeats_steps: the run replaces the folder of every step.

        Raises:
            ConfigError: the input lies where the run writes, or a trial would replace the results
                of a real run.
            StorageError: names the first file or folder that the run would replace.
        """
        source, layout = Path(config.input_path), self.layout
        if source.is_dir() and self.root.is_dir() and source.samefile(self.root):
            beside = self.root.resolve().with_name(f"{self.root.resolve().name}-run")
            raise ConfigError(
                f"root_output_path: {self.root} is the input's folder too; choose another one, "
                f"such as {beside}"
            )
        if config.fast_dev_run and self.is_finished:
            raise ConfigError(
                f"{self.root}: holds a finished run, and a trial (fast_dev_run: true) would "
                "replace its results; choose another root_output_path (--output)"
            )
        if config.start_from and Path(config.start_from).resolve() == self.root.resolve():
            raise ConfigError(
                f"start_from: {config.start_from} is the folder of this run; give another "
                "root_output_path (--output)"
            )
        steps = layout.steps()
        if config.teacher_exists:  # it is only read
            steps.remove(layout.teacher)
        written = [*deliverables(config, layout), *others]
        for place in (*steps, *written, layout.student, layout.work, layout.kfp):
            if source.exists() and source.resolve().is_relative_to(place.resolve()):
                raise ConfigError(
                    f"input_path: {config.input_path} lies in {place}, where the run writes; "
                    "choose another root_output_path"
                )
        for place in steps:
            self.require_free(place, deep=repeats_steps)
        for place in written:
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

    @property
    def is_finished(self) -> bool:
        """Whether the folder has the results of a run that is not a trial."""
        metrics = self.layout.metrics
        results = read_mapping(metrics) if self._is_made(metrics) else {}
        return bool(results) and not results.get("trial")

    def claim(self, *places: Path) -> None:
        """Record places as the run's own, before the run writes them.

        Raises:
            StorageError: one of them belongs to the user.
        """
        for place in places:
            self.require_free(place)
            self.made.add(_name(place, self.root))
        self.save()

    def save(self) -> None:
        """Write `run.json`: the record, and the names of what runs have made."""
        own = self.layout.record
        self.record["made"] = sorted(self.made - {own.name})
        write_json(own, self.record)
        self.made.add(own.name)

    def own_pipeline_folder(self) -> Path:
        """Return the folder of the local pipeline's artifacts; create it if it is missing.

        KFP's cache holds absolute paths; a folder that was moved or copied starts without one.

        Raises:
            StorageError: the user has a file, link or folder of that name.
        """
        folder = self.layout.kfp
        self.require_free(folder)
        folder.mkdir(exist_ok=True)
        path, owner = str(folder.resolve()), folder / _OWNER
        if not owner.exists() or owner.read_text(encoding="utf-8") != path:
            _remove_files(folder / "cache", lambda file: True)
            owner.write_text(path, encoding="utf-8")
        return folder

    def remove_all_but_deliverables(self, *, keep_teacher: bool) -> None:
        """Remove the run's own files, except bundles, metrics, report and record."""
        layout = self.layout
        kept = layout.delivered() | ({layout.teacher} if keep_teacher else set())
        made = (self.root / name for name in self.made)
        places = {*layout.steps(), *layout.of_pipeline(), *made}
        # The pipeline's folder comes last: it shows that links and logs belong to the run.
        self.remove([*sorted(places - kept), layout.kfp])

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
        for folder in (self.layout.student, self.layout.work):
            with suppress(OSError):  # it is missing or not empty
                folder.rmdir()
        if removed:
            logger.info("removed %s", ", ".join(removed))

    def _made(self) -> set[str]:
        names = self.record.get("made")
        if isinstance(names, list):
            inside = (name for name in names if isinstance(name, str) and _is_inside(name))
            return {self.layout.record.name, *inside}
        if not self.layout.record.is_file():
            return set()
        # The record is damaged or from an earlier version: the lists in the folders are proof.
        layout = self.layout
        places = {*layout.steps(), self.root / OTHER_DATA, *layout.delivered()}
        found = {place for place in places if _listed(place) is not None}
        files = (layout.record, layout.metrics, layout.report, layout.predictions)
        own = {*found, *files, layout.explanations} if found else set()
        return {_name(place, self.root) for place in own}

    def _is_made(self, place: Path) -> bool:
        return _name(place, self.root) in self.made

    def _has_pipeline(self) -> bool:
        folder = self.layout.kfp
        if folder.is_symlink():
            return False
        # Earlier versions left KFP's cache there, but no owner's file.
        return (folder / _OWNER).is_file() or (folder / "cache").is_dir()

    def _is_artifact(self, link: Path) -> bool:
        """Whether a link leads to an artifact of the local pipeline."""
        return self._has_pipeline() and self.layout.kfp.resolve() in link.resolve().parents

    def _foreign(self, place: Path, *, deep: bool = True) -> Path | None:
        """The first file or folder in a place that no run has made; None if there is none."""
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
            of_pipeline = place in self.layout.of_pipeline() and self._has_pipeline()
            return None if self._is_made(place) or of_pipeline else place
        if place == self.layout.kfp and self._has_pipeline():
            return None
        if self._is_made(place) and any((place / each).exists() for each in _LISTS):
            listed = _listed(place)
            if listed is None or not deep:
                return None  # without a readable list, the step is repeated
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
        elif place == self.layout.kfp:
            _remove_pipeline(place)
        elif self._is_made(place):
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
    """Names of the run's files in the folder of a step or bundle; None without a list."""
    for name in _LISTS:
        files = read_mapping(folder / name).get("files")
        if isinstance(files, dict):
            return {*files, name, SIGNATURE}
    return None
