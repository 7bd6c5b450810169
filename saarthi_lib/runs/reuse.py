"""Steps of a run: each is made, or reused from an earlier run or from another run.

A step is reused if its key and its files are unchanged. The key is a digest of the library's code,
the input data, the fields in the step's sections, and the keys of the step's inputs.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, cast

from saarthi_lib import steps
from saarthi_lib.config import NOT_IN_ARTIFACTS, SECTIONS, TrainConfig
from saarthi_lib.config.changes import changed_fields, described
from saarthi_lib.data.cloud import is_remote, remote_digest
from saarthi_lib.data.earlier import Earlier
from saarthi_lib.errors import ArtifactError, ConfigError, SaarthiError
from saarthi_lib.layout import RunRecord, StepRecord
from saarthi_lib.lineage import made_by, source_digest, source_revision
from saarthi_lib.logs import get_logger
from saarthi_lib.recipe import settled
from saarthi_lib.runs.changes import CODE, DATA, reason_to_rerun
from saarthi_lib.runs.folder import RunFolder
from saarthi_lib.storage import (
    RECORD,
    alone,
    digest_folder,
    digest_json,
    link_folder,
    read_json,
    verify_record,
)

logger = get_logger("run")

P = ParamSpec("P")

# The networks of a run depend on these sections. A run with another section `delivery` is the same
# run, delivered in another way.
_OF_NETWORKS = ("run", "data", "teacher", "student")


def data_digest(config: TrainConfig) -> str:
    """Digest of the input files and, if there is one, of the run that this one starts from.

    Raises:
        ConfigError: `start_from` does not name a run that fits.
    """
    earlier, digest = Earlier.of(config), input_digest(config)
    return digest_json([digest, earlier.digest]) if earlier else digest


def input_digest(config: TrainConfig) -> str:
    """Digest of the input files; for demonstration data, the name (the code's digest covers it).

    The outputs of a run are left out, if the configuration names their folder.
    """
    if is_remote(config.input_path):
        return remote_digest(config.input_path)
    folder = Path(config.input_path)
    if not folder.exists():
        return config.input_path
    outputs = Path(config.root_output_path) if config.root_output_path else None
    return digest_folder(folder, without=outputs)


def require_same_run(config: TrainConfig, folder: RunFolder) -> None:
    """Check that a run does not replace a finished run with other data or networks.

    Args:
        config: configuration of the run.
        folder: its folder.

    Raises:
        ConfigError: the folder has another finished run; the message lists the differences.
    """
    if not folder.is_finished:
        return
    record, differences = folder.record, []
    if (before := record.get("data_digest")) and before not in _digests_like(config, folder):
        differences.append("the input data have changed")
    with suppress(SaarthiError, OSError, ValueError, KeyError, TypeError):
        config = steps.resolved(config, folder.layout.data)  # unless the run keeps no data
    with suppress(SaarthiError):  # the run that it started from was removed
        earlier = Earlier.of(config)
        if earlier and not _is_start_of(record, earlier):
            differences.append(f"{config.start_from} has changed")
    if changed := changed_fields(config, record, *_OF_NETWORKS):
        differences.append(described(changed))
    if differences:
        raise ConfigError(
            f"{folder.root}: has a finished run that this one would replace "
            f"({'; '.join(differences)}); start from it (--from {shlex.quote(str(folder.root))}), "
            "give another folder (--output), or replace the run (--overwrite)"
        )


def _is_start_of(record: RunRecord, earlier: Earlier) -> bool:
    """Whether a run started from an earlier one as it is now, or shares the start of its data."""
    begun = record.get("started_from")
    return begun is None or begun in (earlier.digest, earlier.record.get("started_from", ""))


def _digests_like(config: TrainConfig, folder: RunFolder) -> set[str]:
    """Digests of the data, as `train` and the pipeline record them."""
    found, source = {input_digest(config)}, Path(config.input_path)
    if not folder.layout.kfp.exists():
        return found
    if folder.root.resolve().is_relative_to(source.resolve()):
        # A task does not know the folder of the run, so its digest has all files of the run too.
        return {folder.record["data_digest"]}
    with suppress(SaarthiError):  # the run that it started from was removed
        found.add(data_digest(config))
    return found


def record_of(config: TrainConfig) -> RunRecord:
    """The configuration for `run.json`, with the reason for each field that the recipe chose."""
    return {"config": config.model_dump(), "recipe": config.reasons}


class Run:
    """A run at work: its configuration, its folder, and the steps that it has made.

    Attributes:
        config: the configuration; resolved by `prepare`.
        folder: the run's folder.
        layout: paths in the folder.
    """

    def __init__(
        self,
        config: TrainConfig,
        store: Path | None = None,
        root: Path | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        """Open the run's folder.

        Args:
            config: the configuration as given.
            store: folder of finished steps that several runs share.
            root: path of the run's folder; None: that of the configuration.
            overwrite: whether the run may replace another finished run.

        Raises:
            ConfigError: the configuration does not fit the folder.
            StorageError: the run would replace a file of the user.
        """
        self.config = config
        self.folder = RunFolder.of(config, root)
        self.folder.require_own(config)
        if not overwrite:
            require_same_run(config, self.folder)
        self.layout = self.folder.layout
        self._store = store
        self._before = _steps_before(self.layout.record)
        self._keys: dict[Path, str] = {}
        self._rerun: list[Path] = []
        self._code, self._data = source_digest(), input_digest(config)
        self._start = digest_json([self._code, self._data])
        self._earlier: Earlier | None = None
        self._said = False  # why no step of that run is reused
        self._from = self._started_from()
        self.folder.record = {
            **record_of(config),
            **cast(RunRecord, made_by()),
            "source_revision": source_revision(),
            "data_digest": self._data,
            "steps": dict(self._before),
        }

    def _started_from(self) -> str:
        """Digest of the run that this one starts from; empty without one.

        A run whose earlier run was removed can still be delivered again.
        """
        try:
            self._earlier = Earlier.of(self.config)
        except ConfigError:
            before = self.folder.record
            if "start_from" in changed_fields(self.config, before, "data"):
                raise
            if "started_from" not in before:
                raise
            return before["started_from"]
        return self._earlier.digest if self._earlier else ""

    def prepare(self) -> Path:
        """Make or reuse the data, and resolve the configuration with their facts.

        The key of the data has the resolved fields, so a run that gives them reuses the data.
        """
        given, data = self.config, self.layout.data
        with suppress(ArtifactError, OSError, ValueError, KeyError, TypeError):
            self.config = steps.resolved(given, data)  # with the facts of an earlier run
        inputs = [self._from] if self._from else []
        key = self._key(steps.preprocess, data, inputs)
        if found := self._key_of_same_data(given):
            key, inputs = found
        if given.start_from:
            self.folder.record["started_from"] = "".join(inputs)
        self._step(data, key, lambda: steps.preprocess(given, data), [])
        self.config = steps.resolved(given, data)
        self._keys[data] = self._key(steps.preprocess, data, inputs)
        step = self.folder.record["steps"][self._name(data)]
        step["key"] = self._keys[data]
        # Preprocessing logs the fields of its own sections.
        logged = SECTIONS if step["reused"] else ("student", "delivery")
        steps.log_recipe(self.config, *logged)
        self.save(self.config)
        return data

    def _key_of_same_data(self, given: TrainConfig) -> tuple[str, list[str]] | None:
        """Key and inputs of the earlier run's data, if this run would make the same."""
        if self._earlier is None or self._earlier.record.get("data_digest") != self._data:
            return None
        record, now = self._earlier.record, self.config
        inputs = [digest] if (digest := record.get("started_from")) else []
        with suppress(ArtifactError, OSError, ValueError, KeyError, TypeError):
            self.config = steps.resolved(given, self._earlier.data)
            key = self._key(steps.preprocess, self.layout.data, inputs)
            if record["steps"][self._name(self.layout.data)].get("key") == key:
                return key, inputs
        self.config = now
        return None

    def take(self, folder: Path, config: TrainConfig) -> Path:
        """Use a folder that the user brought as a step, with the configuration that fits it.

        Raises:
            ArtifactError: a file was changed or damaged.
        """
        verify_record(folder)
        self._keys[folder] = digest_folder(folder)
        self.save(config)
        return folder

    def make(
        self, step: Callable[Concatenate[TrainConfig, P], Any], *args: P.args, **kwargs: P.kwargs
    ) -> Path:
        """Make a step's folder, or reuse it.

        Args:
            step: a function of `saarthi_lib.steps` that writes the folder `out`.
            args: arguments of the step after its configuration; its inputs are the paths in them.
            kwargs: further arguments, with `out`.

        Returns:
            The folder `out`.
        """
        out, inputs = cast(Path, kwargs["out"]), list(_paths(args))
        key = self._key(step, out, [self._keys[path] for path in inputs])
        self._step(out, key, lambda: step(self.config, *args, **kwargs), inputs)
        return out

    def save(self, config: TrainConfig) -> None:
        """Use a configuration from here on, and record it in `run.json`."""
        self.config = config
        self.folder.record |= record_of(config)
        self.folder.save()

    def _key(self, step: Callable[..., Any], out: Path, inputs: list[str]) -> str:
        """Digest of everything that decides the content of a step's folder."""
        sections: tuple[str, ...] = vars(step)["sections"]
        fields = settled(self.config, *sections)
        for field in (*NOT_IN_ARTIFACTS, "start_from"):  # the data have the digest of that run
            fields.pop(field, None)
        if "teacher_layer_to_distil" in fields:  # only the signals depend on it
            signals = step is steps.teacher_signals
            fields["teacher_layer_to_distil"] = self.config.layers_to_distil if signals else None
        return digest_json([self._start, self._name(out), fields, inputs])

    def _step(
        self, folder: Path, key: str, make: Callable[[], Any], inputs: Sequence[Path]
    ) -> None:
        """Make or reuse a folder with this key, and record it.

        Args:
            folder: folder of the step.
            key: digest of everything that decides its content.
            make: function that makes it.
            inputs: folders that it reads.
        """
        name = self._name(folder)
        self._keys[folder] = key
        step: StepRecord = {"key": key, "code": self._code, "data": self._data, "seconds": 0.0}
        earlier = self._before.get(name)
        reused = earlier is not None and earlier.get("key") == key and _is_sound(folder)
        if reused:
            logger.info("%s: reused", name)
        else:
            self.folder.claim(folder)
            if earlier is None and self._earlier:
                reused = self._reuse_of_earlier(folder, step, inputs)
            elif earlier is not None:
                logger.info("%s: rerun, because %s", name, self._why(folder, earlier, step, inputs))
            reused = reused or self._make_or_share(folder, key, make)
        if not reused:
            self._rerun.append(folder)
        step |= {"seconds": read_json(folder / RECORD)["seconds"], "reused": reused}
        self.folder.record["steps"][name] = step
        self.folder.save()

    def _reuse_of_earlier(self, folder: Path, step: StepRecord, inputs: Sequence[Path]) -> bool:
        """Link a step of the run that this one starts from, if it has the same key."""
        assert self._earlier
        name, root = self._name(folder), self._earlier.layout.root
        source, before = root / name, self._earlier.record.get("steps", {}).get(name)
        if before is None:
            return False
        if before.get("key") == step["key"] and _is_sound(source):
            logger.info("%s: reused from %s", name, root)
            link_folder(source, folder)
            return True
        why = self._why(source, before, step, inputs)
        if why not in (CODE, DATA):
            logger.info("%s: not reused from %s, because %s", name, root, why)
        elif not self._said:  # the reason of all steps
            logger.info("no step is reused from %s, because %s", root, why)
            self._said = True
        return False

    def _why(
        self, folder: Path, before: StepRecord, now: StepRecord, inputs: Sequence[Path]
    ) -> str:
        changed = [self._name(path) for path in inputs if path in self._rerun]
        return reason_to_rerun(folder, before, now, self.config, changed)

    def _make_or_share(self, folder: Path, key: str, make: Callable[[], Any]) -> bool:
        """Make a folder, or link it from the store; returns whether it was in the store."""
        if self._store is None:
            make()
            return False
        shared = self._store / key
        with alone(self._store / f"{key}.lock"):
            found = _is_sound(shared)
            if found:
                logger.info("%s: reused from another run", self._name(folder))
                link_folder(shared, folder)
            else:
                make()
                link_folder(folder, shared)
        return found

    def _name(self, folder: Path) -> str:
        return folder.relative_to(self.layout.root).as_posix()


def _steps_before(record: Path) -> dict[str, StepRecord]:
    """Steps that an earlier run in the folder has recorded."""
    if not record.is_file():
        return {}
    try:
        return dict(read_json(record)["steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: cannot be read (%s): every step is rerun", record, error)
        return {}


def _paths(arguments: Iterable[object]) -> Iterator[Path]:
    """The paths in arguments and in sequences of arguments."""
    for argument in arguments:
        if isinstance(argument, Path):
            yield argument
        elif isinstance(argument, steps.TrainedNetwork):
            yield argument.folder
        elif isinstance(argument, list | tuple):
            yield from _paths(argument)


def _is_sound(folder: Path) -> bool:
    """Whether a step exists and all its files are unchanged."""
    if not (folder / RECORD).is_file():
        return False
    try:
        verify_record(folder)
    except ArtifactError as error:
        logger.warning("%s: the step is rerun", error)
        return False
    return True
