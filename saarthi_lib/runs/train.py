"""All steps in one process: the library's `train`, and `saarthi train`.

(A module called `train` would hide the function of that name in the package.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib import steps
from saarthi_lib.config import NOT_IN_ARTIFACTS, SECTIONS, TRIAL, TrainConfig, require
from saarthi_lib.data.cloud import is_remote, remote_digest
from saarthi_lib.data.detect import with_task
from saarthi_lib.distillation.schedule import STAGES
from saarthi_lib.errors import ArtifactError, ConfigError, InputError, TeacherError
from saarthi_lib.layout import (
    EXPLANATIONS,
    LOCK,
    LOGS,
    METRICS,
    PREDICTIONS,
    REPORT,
    RUN,
    SIGNALS,
    TEACHER_BUNDLE,
    WORK,
    RunFolder,
)
from saarthi_lib.lineage import made_by, source_digest, source_revision
from saarthi_lib.logs import get_logger
from saarthi_lib.recipe import settled, with_members, with_one_teacher
from saarthi_lib.storage import (
    RECORD,
    alone,
    copy_file,
    digest_file,
    digest_folder,
    digest_json,
    link_folder,
    read_json,
    remove_leftovers,
    verify_record,
)

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from saarthi_lib.evaluation.attribution import Method

logger = get_logger("run")

Loggers = Mapping[str, Sequence["Logger"]]


def train(
    config: TrainConfig | Mapping[str, Any],
    loggers: Loggers | None = None,
    store: Path | None = None,
) -> Path:
    """Train, distil, export, quantize, evaluate and bundle, into `root_output_path`.

    A step is reused if an earlier run in the same folder finished it with the same configuration,
    data and code. An interrupted run therefore resumes where it stopped. A step is rerun if its
    files were changed or damaged. One run at a time works in a folder.

    Args:
        config: the configuration, or a mapping of its fields.
        loggers: Lightning loggers for `teacher` and `student_stage_1` … `student_stage_5`, a list
            each; missing or empty means none.
        store: folder of finished steps that several runs share. A run reuses the steps that another
            has made with the same configuration, data and code.

    Returns:
        The run's folder.

    Raises:
        SaarthiError: an error that the user can fix.
    """
    if not isinstance(config, TrainConfig):
        config = TrainConfig.from_mapping(config)
    require(config, "input_path", "root_output_path")
    config = with_task(config)
    with at_work(Path(config.root_output_path)):
        if config.fast_dev_run:
            logger.warning(TRIAL)
        root = _train(config, loggers or {}, store)
        if config.fast_dev_run:
            logger.warning(TRIAL)
        return root


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """Lock a run's folder for the block, and remove half-written files of killed runs.

    Raises:
        StorageError: another run works in the folder, or it is not writable.
    """
    with alone(root / LOCK, wait=False):
        remove_leftovers(root)
        yield


def _train(config: TrainConfig, logs: Loggers, store: Path | None) -> Path:
    run = _Run(with_one_teacher(config), store)
    root, work = run.root, run.root / WORK

    data, teacher = run.folder.data, run.folder.teacher
    config = run.prepare()
    steps.check_risk_target(config, data)
    if config.teacher_exists:
        check_teacher_fits(teacher, data)
        verify_record(teacher)
        config = with_members(config, read_json(teacher / "teacher.json"))
        run.save_configuration(config)
        run.keys[teacher] = digest_folder(teacher)
        logger.info("teacher: taken from %s, as teacher_exists says", teacher)
    else:
        run.step(
            "teacher",
            teacher,
            [data],
            lambda out: steps.train_teacher(config, data, out, logs.get("teacher", ())),
        )
    teacher_test = run.step(
        "teacher",
        work / "teacher-test",
        [data, teacher],
        lambda out: steps.test_teacher(config, data, teacher, out),
    )
    stages = _distil(run, data, teacher, logs) if config.distillation else []
    source = stages[-1] if stages else teacher
    network = steps.TrainedNetwork("student" if stages else "teacher", source)
    exported = run.step(
        "delivery",
        work / "exported",
        [data, source],
        lambda out: steps.export(config, data, network, out),
    )
    quantized = None
    if config.quantization:
        quantized = run.step(
            "delivery",
            work / "quantized",
            [data, source],
            lambda out: steps.quantize(config, data, network, out),
        )
    evaluation = run.step(
        "delivery",
        work / "evaluation",
        [teacher_test, *stages, exported, *([quantized] if quantized else [])],
        lambda out: steps.evaluate(
            config, data, teacher, teacher_test, stages, exported, quantized, out
        ),
    )

    def publish(source: Path, model: str, name: str) -> None:
        run.claim(root / name)
        digest = run.record["data_digest"]
        steps.publish(config, source, evaluation, model, root / name, digest)

    publish(exported, "final", "bundle")
    if quantized:
        publish(quantized, "quantized", f"bundle-{config.quantization}")
    if config.torchscript and network.is_student:
        teacher_network = steps.TrainedNetwork("teacher", teacher)
        whole = run.step(
            "delivery",
            work / "teacher-exported",
            [data, teacher],
            lambda out: steps.export(config, data, teacher_network, out),
        )
        publish(whole, "teacher", TEACHER_BUNDLE)
    if config.explained_errors:
        student = stages[-1] if stages else None
        explanations = run.step(
            "delivery",
            work / "explanations",
            [data, teacher, *stages[-1:]],
            lambda out: steps.explain(config, data, teacher, student, out),
        )
        run.claim(root / EXPLANATIONS)
        copy_file(explanations / EXPLANATIONS, root / EXPLANATIONS)
    finish(config, run.folder, evaluation, run.record)
    return root


def quantize_run(root: Path, precision: str) -> Path:
    """Quantize the student of a finished run once more, into `bundle-<precision>`.

    Args:
        root: the run's folder.
        precision: `int8` or `float16`.

    Returns:
        The bundle, with its metrics on the test split.

    Raises:
        ArtifactError: a file of the run was changed or damaged.
        ConfigError: the folder is not a finished run, or keeps no student to quantize.
        ParityError: the drop on validation exceeds the limit in the run's configuration.
    """
    config = _config_of(root, quantization=precision)
    folder, work = config.run_folder(root), root / WORK
    data, source = folder.data, folder.student / f"stage_{STAGES[-1]}"
    if not (source.is_dir() and data.is_dir()):
        raise ConfigError(
            f"{root}: keeps no student to quantize; run it with distillation: true and "
            "production: false"
        )
    quantized, bundle = work / f"quantized-{precision}", root / f"bundle-{precision}"
    evaluation = work / f"evaluation-{precision}"
    with at_work(root):
        folder.claim(quantized, evaluation, bundle)
        folder.save(folder.record)
        student = steps.TrainedNetwork("student", source)
        steps.quantize(config, data, student, quantized)
        steps.evaluate_bundle(config, data, quantized, root / METRICS, evaluation)
        steps.publish(config, quantized, evaluation, "quantized", bundle)
    return bundle


def explain_run(
    root: Path,
    model: str,
    methods: Sequence["Method"],
    *,
    text: str | None = None,
    most: int | None = None,
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]], str]:
    """Explain a text, or the errors of the test split, by a network of a finished run.

    Args:
        root: the run's folder.
        model: `student` or `teacher`.
        methods: methods of attribution.
        text: the text; None for the errors.
        most: maximum number of errors to explain; None for all.

    Returns:
        The result of `explain_rows`, its metrics from `figures` (empty for a text), and a sentence
        that describes the result.

    Raises:
        ConfigError: the folder is not a finished run, or does not keep such a network.
        InputError: the model is unknown, or the text cannot be used.
    """
    if model not in ("student", "teacher"):
        raise InputError(f"--model {model}: must be student or teacher")
    config = _config_of(root)
    folder = config.run_folder(root)
    networks = {"student": folder.student / f"stage_{STAGES[-1]}", "teacher": folder.teacher}
    source, data = networks[model], folder.data
    if not (source.is_dir() and data.is_dir()):
        raise ConfigError(
            f"{root}: keeps no {model} to explain; run it with production: false"
            + (" and distillation: true" if model == "student" else "")
        )
    network = steps.TrainedNetwork(model, source)
    return steps.explain_network(config, data, network, methods, text, most)


def _config_of(root: Path, **changes: Any) -> TrainConfig:
    """The configuration of a finished run.

    Raises:
        ConfigError: the folder is not a finished run.
    """
    try:
        record = read_json(root / RUN)
        before, reasons = record["config"], record.get("recipe", {})
    except (OSError, ValueError, KeyError):
        raise ConfigError(f"{root}: is not a finished run; train one first") from None
    config = TrainConfig.from_mapping({**before, **changes}, str(root / RUN))
    return config.with_reasons(reasons)


def configuration_record(config: TrainConfig) -> dict[str, Any]:
    """The configuration in `run.json`, with the reason for each field that the recipe chose."""
    return {"config": config.model_dump(), "recipe": config.reasons}


def loggers_of(config: TrainConfig) -> Loggers:
    """Loggers from the configuration, for the teacher and for each stage.

    Loggers that write files use `logs/` in the run's folder.

    Raises:
        ConfigError: a logger's package is not installed.
    """
    from saarthi_lib.training.loggers import make_loggers

    parts = ["teacher", *(f"student_stage_{stage}" for stage in STAGES)]
    folder = Path(config.root_output_path) / LOGS
    return make_loggers(config.loggers, folder, config.name, parts)


def check_teacher_fits(teacher: Path, data: Path) -> None:
    """Check that an existing teacher was trained on the vocabulary of these data.

    Raises:
        TeacherError: the teacher is missing, or its vocabulary differs.
    """
    try:
        trained_on = read_json(teacher / "teacher.json")["tokenizer"]
    except (OSError, ValueError, KeyError):
        raise TeacherError(
            f"{teacher}: holds no fine-tuned teacher, though teacher_exists is true; set it to "
            "false to train one"
        ) from None
    if trained_on != digest_file(data / "tokenizer.json"):
        raise TeacherError(
            f"{teacher}: was fine-tuned on another vocabulary than that of these data; set "
            "teacher_exists to false to train it again"
        )


def deliverables(config: TrainConfig) -> list[str]:
    """Names of the files and bundles that a run writes besides those of every run."""
    names = ["bundle"]
    if config.quantization:
        names.append(f"bundle-{config.quantization}")
    if config.torchscript and config.distillation:
        names.append(TEACHER_BUNDLE)
    if config.explained_errors:
        names.append(EXPLANATIONS)
    return names


def finish(
    config: TrainConfig, folder: RunFolder, evaluation: Path, record: dict[str, Any]
) -> None:
    """Copy the results to the top of the run's folder, and remove files that are not kept.

    Args:
        config: the configuration.
        folder: the run's folder.
        evaluation: folder written by `evaluate`.
        record: content of `run.json`.
    """
    results = (METRICS, REPORT, PREDICTIONS)
    folder.claim(*(folder.root / name for name in results))
    folder.save(record)
    for name in results:
        copy_file(evaluation / name, folder.root / name)
    if config.production:
        folder.remove_all_but_deliverables(keep_teacher=config.teacher_exists)
    elif not (config.enable_teacher_checkpointing or config.teacher_exists):
        folder.remove([folder.teacher])
    folder.save(record)


def data_digest(config: TrainConfig) -> str:
    """Digest of the input files; for demonstration data, the name (the code's digest covers it).

    The outputs of a run are left out, if the configuration names their folder.
    """
    if is_remote(config.input_path):
        return remote_digest(config.input_path)
    folder = Path(config.input_path)
    if not folder.is_dir():
        return config.input_path
    outputs = Path(config.root_output_path) if config.root_output_path else None
    return digest_folder(folder, without=outputs)


class _Run:
    """A run's folder and the record of its steps, kept in `run.json`."""

    def __init__(self, config: TrainConfig, store: Path | None = None) -> None:
        self.config = config
        self.store = store
        self.root = Path(config.root_output_path)
        self.folder = config.run_folder(self.root)
        self.folder.require_own(
            config.input_path, deliverables(config), teacher_exists=config.teacher_exists
        )
        self.keys: dict[Path, str] = {}
        self.before: dict[str, Any] = {}
        if (self.root / RUN).is_file():
            try:
                self.before = dict(read_json(self.root / RUN)["steps"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning(
                    "%s: cannot be read (%s): every step is made again",
                    self.root / RUN,
                    error,
                )
        self.record: dict[str, Any] = {
            **configuration_record(config),
            **made_by(),
            "source_revision": source_revision(),
            "data_digest": data_digest(config),
            "steps": dict(self.before),
        }
        self.start = digest_json([source_digest(), self.record["data_digest"]])

    def step(
        self, last_section: str, folder: Path, inputs: Sequence[Path], make: Callable[[Path], Any]
    ) -> Path:
        """Make a step's folder, or reuse it from an earlier run.

        Args:
            last_section: last section of the configuration that the step depends on; it depends on
                all earlier ones too.
            folder: folder that the step writes.
            inputs: folders that the step reads.
            make: function that writes the given folder.
        """
        name = folder.relative_to(self.root).as_posix()
        key = self.keys[folder] = self._key(last_section, folder, inputs)
        earlier = self.before.get(name)
        reused = bool(earlier and earlier.get("key") == key and _is_sound(folder))
        if reused:
            logger.info("%s: taken from the earlier run", name)
        else:
            self.claim(folder)
            reused = self._make(key, name, folder, make)
        seconds = read_json(folder / RECORD)["seconds"]
        self.record["steps"][name] = {"key": key, "seconds": seconds, "reused": reused}
        self.folder.save(self.record)
        return folder

    def prepare(self) -> TrainConfig:
        """Make or reuse the data, and resolve the configuration with their facts.

        The key of the data has the resolved fields, so a run that gives them reuses the data.
        """
        given, data = self.config, self.folder.data
        with suppress(ArtifactError, OSError, ValueError, KeyError, TypeError):
            self.config = steps.resolved(given, data)  # with the facts of an earlier run
        # The teacher decides the vocabulary, so the data depend on its section too.
        self.step("teacher", data, [], lambda out: steps.preprocess(given, out))
        self.config = steps.resolved(given, data)
        step = self.record["steps"][data.relative_to(self.root).as_posix()]
        self.keys[data] = step["key"] = self._key("teacher", data, [])
        # Preprocessing logs the fields of its own sections.
        steps.log_recipe(self.config, *(SECTIONS if step["reused"] else ("student", "delivery")))
        self.save_configuration(self.config)
        return self.config

    def save_configuration(self, config: TrainConfig) -> None:
        """Record the configuration in `run.json`."""
        self.config = config
        self.record |= configuration_record(config)
        self.folder.save(self.record)

    def _key(self, last_section: str, folder: Path, inputs: Sequence[Path]) -> str:
        """Digest of all that a step depends on; see `step`."""
        names = list(SECTIONS)
        sections = settled(self.config, *names[: names.index(last_section) + 1])
        for field in NOT_IN_ARTIFACTS:
            sections.pop(field, None)
        name = folder.relative_to(self.root).as_posix()
        return digest_json([self.start, name, sections, [self.keys[path] for path in inputs]])

    def claim(self, place: Path) -> None:
        """Record a place as the run's own before the run writes it.

        Raises:
            StorageError: the place belongs to the user.
        """
        self.folder.claim(place)
        self.folder.save(self.record)

    def _make(self, key: str, name: str, folder: Path, make: Callable[[Path], Any]) -> bool:
        """Make a step's folder, or reuse it from the store; returns whether it was reused."""
        if self.store is None:
            make(folder)
            return False
        with alone(self.store / f"{key}.lock"):
            taken = _is_sound(self.store / key)
            if taken:
                logger.info("%s: taken from a run beside this one", name)
                link_folder(self.store / key, folder)
            else:
                make(folder)
                link_folder(folder, self.store / key)
        return taken


def _is_sound(folder: Path) -> bool:
    """Whether a step exists and all its files are unchanged."""
    if not (folder / RECORD).is_file():
        return False
    try:
        verify_record(folder)
    except ArtifactError as error:
        logger.warning("%s: the step is made again", error)
        return False
    return True


def _distil(run: _Run, data: Path, teacher: Path, logs: Loggers) -> list[Path]:
    """Signals, then the stages one after the other."""
    config = run.config
    signals = run.step(
        "teacher",
        run.root / SIGNALS,
        [data, teacher],
        lambda out: steps.teacher_signals(config, data, teacher, out),
    )
    stages: list[Path] = []
    for stage in STAGES:
        before = stages[-1] if stages else None

        def make(out: Path, stage: int = stage, before: Path | None = before) -> None:
            loggers = logs.get(f"student_stage_{stage}", ())
            steps.distil(config, stage, data, teacher, signals, before, out, loggers)

        folder = run.folder.student / f"stage_{stage}"
        inputs = [data, teacher, signals, *([before] if before else [])]
        stages.append(run.step("student", folder, inputs, make))
    return stages
