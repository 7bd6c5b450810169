"""Names and paths in a run's folder, and names that earlier versions used."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict, cast

from saarthi_lib.errors import ConfigError
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import RECORD, digest_json, read_json

logger = get_logger("run")

STAGES = (1, 2, 3, 4, 5)
DATA, OTHER_DATA = "data", "prepared-data"
MANIFEST, SIGNATURE = "bundle.json", "bundle.sig"  # of a bundle
SERVED_LIST = ".served"  # in a folder of versions: those that were served, the present one last
RUN_BUNDLES = ("bundle-int8", "bundle-float16", "bundle")  # smallest first
SYNONYMS = "synonyms.json"  # of an export: in the data's folder and in bundles
START = "start.json"  # in prepared data and networks: the run that they start from
PREDICTIONS, EXPLANATIONS = "predictions.parquet", "explanations.html"

_NOT_PLAIN = re.compile(r"[/\\:\x00-\x1f]|^[.\s]|[.\s]$|.{101}", re.DOTALL)
# Names in configurations, bundles and runs of earlier versions, with the present ones.
_RENAMED_FIELDS = {
    "normalisation": "normalization",
    "max_quantisation_loss": "max_quantization_loss",
    "vocabulary_extra_pieces": "vocabulary_extra_tokens",
}
REMOVED = "exported_program"  # a field that earlier versions had
_RENAMED_VALUES = {
    ("normalization", "romanised"): "romanized",
    ("representation_loss", "normalised_mse"): "normalized_mse",
}


class StepRecord(TypedDict):
    """A step in `run.json`: its seconds, and the digests that show if a later run can reuse it.

    The digest `key` covers `code`, `data` (the input files), the configuration and the inputs.
    """

    seconds: float
    key: NotRequired[str]
    code: NotRequired[str]
    data: NotRequired[str]
    reused: NotRequired[bool]


class RunRecord(TypedDict, total=False):
    """Content of `run.json`.

    Attributes:
        config: the resolved configuration.
        recipe: the reason for each field that the recipe chose.
        versions: versions of Saarthi, Python and libraries.
        source_revision: revision of the code.
        run_id: ID of the pipeline's run.
        data_digest: digest of the input files.
        started_from: digest of the run that this one started from.
        saved_seconds: time that training further from an earlier network has saved, by network.
        steps: steps by the name of their folder.
        made: names of the files, steps and bundles that runs have made in the folder.
    """

    config: dict[str, Any]
    recipe: dict[str, str]
    versions: dict[str, str]
    source_revision: str
    run_id: str
    data_digest: str
    started_from: str
    saved_seconds: dict[str, float]
    steps: dict[str, StepRecord]
    made: list[str]


class _Inside:
    """A path with a fixed name in the run's folder."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __get__(self, layout: "RunLayout", owner: type) -> Path:
        return layout.root.joinpath(*self.names)


@dataclass(frozen=True)
class RunLayout:
    """Paths in the folder of a run.

    Attributes:
        root: the run's folder; it need not exist.
        teacher_name: name of the teacher's folder.
        student_name: name of the folder with the student's stages.
        data_name: `data`, or `prepared-data` where the user has a folder `data` in `root`.
    """

    root: Path
    teacher_name: str = "teacher"
    student_name: str = "student"
    data_name: str = DATA

    record = _Inside("run.json")
    config = _Inside("config.yaml")  # written by `saarthi train DATA`, for the user to edit
    lock = _Inside(".saarthi-lock")
    logs = _Inside("logs")
    signals = _Inside("signals")
    work = _Inside("work")
    teacher_test = _Inside("work", "teacher-test")
    exported = _Inside("work", "exported")
    quantized = _Inside("work", "quantized")
    evaluation = _Inside("work", "evaluation")
    teacher_exported = _Inside("work", "teacher-exported")
    explained = _Inside("work", "explanations")
    bundle = _Inside("bundle")
    teacher_bundle = _Inside("teacher-bundle")
    metrics = _Inside("metrics.json")
    report = _Inside("report.html")
    predictions = _Inside(PREDICTIONS)
    explanations = _Inside(EXPLANATIONS)
    kfp = _Inside(".kfp")  # artifacts of the local pipeline
    pipeline_log = _Inside("pipeline.log")
    sweep = _Inside("sweep.json")
    sweep_page = _Inside("sweep.html")

    @classmethod
    def of(cls, root: Path) -> Self:
        """The layout of an earlier run, with the names that its `run.json` has."""
        record = read_record(root)
        given = record.get("config", {})
        names = {
            f"{part}_name": given.get(f"{part}_output_folder") or part
            for part in ("teacher", "student")
        }
        elsewhere = (root / OTHER_DATA / RECORD).is_file() and (
            OTHER_DATA in record.get("made", ()) or not (root / DATA / RECORD).is_file()
        )
        return cls(root, **names, data_name=OTHER_DATA if elsewhere else DATA)

    @property
    def data(self) -> Path:
        """Folder of the prepared data."""
        return self.root / self.data_name

    @property
    def teacher(self) -> Path:
        """Folder of the fine-tuned teacher."""
        return self.root / self.teacher_name

    @property
    def student(self) -> Path:
        """Folder of the student's stages."""
        return self.root / self.student_name

    def stage(self, number: int = STAGES[-1]) -> Path:
        """Folder of the student after a stage, by default the last one."""
        return self.student / f"stage_{number}"

    def steps(self) -> list[Path]:
        """Folders of all steps."""
        earlier = self.work / "quantised"  # of earlier versions
        return [
            *(self.data, self.teacher, self.signals, *map(self.stage, STAGES)),
            *(self.teacher_test, self.exported, self.quantized, self.evaluation),
            *(self.teacher_exported, self.explained, earlier),
        ]

    def delivered(self) -> set[Path]:
        """Files and bundles that are never removed."""
        bundles = (self.root / name for name in RUN_BUNDLES)
        files = (self.record, self.config, self.metrics, self.report)
        return {*bundles, self.teacher_bundle, *files}

    def of_pipeline(self) -> tuple[Path, ...]:
        """Files of the local pipeline."""
        return self.pipeline_log, self.sweep, self.sweep_page

    def quantized_bundle(self, precision: str) -> Path:
        """Bundle of the student in `int8` or `float16`."""
        return self.root / f"bundle-{precision}"

    def delivered_bundle(self) -> Path:
        """The smallest bundle of the student, which services load.

        Raises:
            ConfigError: the run keeps no bundle.
        """
        for name in RUN_BUNDLES:
            if (self.root / name).is_dir():
                return self.root / name
        raise ConfigError(f"{self.root}: keeps no bundle; train the run again")


def read_record(root: Path) -> RunRecord:
    """Read a run's `run.json`, with present names; empty if it is missing or damaged."""
    record = read_mapping(RunLayout(root).record)
    for part in ("config", "recipe"):
        if isinstance(record.get(part), dict):
            record[part] = current_names(record[part])
    return cast(RunRecord, record)


def read_mapping(file: Path) -> dict[str, Any]:
    """Read a JSON object; empty if the file is missing or holds something else."""
    try:
        content = read_json(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def digest_of_step(folder: Path) -> str:
    """Digest of a step's files, as its record has them; empty without a record."""
    files = read_mapping(folder / RECORD).get("files")
    return digest_json(files) if files else ""


def is_run(folder: Path) -> bool:
    """Whether a folder is the folder of a run: its `run.json` is the record of one."""
    return not read_record(folder).keys().isdisjoint(("made", "steps"))


def plain_folder_name(value: str) -> str:
    """Check the name of a folder in a run's folder.

    Raises:
        ValueError: it is a path, hidden or too long, or the run uses the name itself.
    """
    if _NOT_PLAIN.search(value):
        raise ValueError("must be the plain name of a folder in root_output_path, not a path")
    fixed = (place.names[0] for place in vars(RunLayout).values() if isinstance(place, _Inside))
    if value.casefold() in {DATA, OTHER_DATA, *RUN_BUNDLES, *fixed}:
        raise ValueError("the run uses this name itself; choose another one")
    return value


def current_names(fields: Mapping[str, Any], source: str = "") -> dict[str, Any]:
    """Rename fields and values of earlier versions, and drop removed fields.

    Args:
        fields: fields of a configuration, a manifest or a step.
        source: name of the user's fields in warnings; empty for files of Saarthi: no warnings.
    """
    current: dict[str, Any] = {}
    for given, value in fields.items():
        name = _RENAMED_FIELDS.get(given, given)
        if given == REMOVED and not (source and value):
            continue
        if given != name and name in fields:
            if source:
                logger.warning("%s: %s is ignored, because %s is given too", source, given, name)
            continue
        current[name] = _current_value(name, value)
        if source and given != name:
            logger.warning("%s: the field %s is now called %s", source, given, name)
        if source and current[name] != value:
            logger.warning("%s: %s: %s is now called %s", source, name, value, current[name])
    return current


def _current_value(name: str, value: Any) -> Any:
    """The present name of a value, or of each value in a list."""
    if isinstance(value, list):
        return [_current_value(name, each) for each in value]
    return _RENAMED_VALUES.get((name, value), value) if isinstance(value, str) else value
