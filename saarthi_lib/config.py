"""The training configuration: a flat mapping of fields, their defaults and their checks.

Fields are grouped into sections by the steps that read them. A step (and a pipeline's task) depends
on its own and earlier sections, so a changed student size does not make a finished teacher stale.
"""

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from saarthi_lib.errors import ConfigError
from saarthi_lib.layout import RunFolder, plain_folder_name

Precision = Literal["64", "32", "16", "16-mixed", "bf16-mixed"]
DataFormat = Literal["auto", "csv", "tsv", "jsonl", "parquet", "conll", "conllu"]
AugmentationMethod = Literal[
    "words", "spans", "slots", "code_mixing", "neighbours", "vocabulary", "typos", "speech"
]


# Said wherever the result of a run with `fast_dev_run` is shown.
TRIAL = (
    "trial run: its numbers mean nothing, since it trains for one epoch on a few rows; for a real "
    "run set fast_dev_run: false"
)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class RunSection(_Section):
    """Fields that every step reads."""

    task: Literal["intent_classification", "text_classification", "ner", "pos", "joint"] = Field(
        "intent_classification", description="What is learnt."
    )
    max_seq_len: int = Field(
        26, ge=1, le=510, description="Longest text, in pieces; what is longer is cut."
    )
    precision: Precision = Field(
        "16-mixed",
        description="Training precision. On a CPU, mixed is of bfloat16 where the CPU has "
        "instructions for it (AVX-512 BF16, AMX), and 32 elsewhere.",
    )
    fast_dev_run: bool = Field(
        False,
        description="A trial: one epoch on about 64 rows, to see whether all steps run. Its bundle "
        "is neither published nor rolled out.",
    )
    seed: int = Field(42, ge=0, description="The one seed of everything that is random.")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda|gpu|mps)$", description="Where training runs."
    )
    reweighting: Literal["none", "last_layer", "full"] = Field(
        "none",
        description="Weigh training rows by their gradient's agreement with the trusted rows of "
        "clean.* (arXiv 1803.09050): of the last layer, in closed form, or of the whole teacher.",
    )
    self_adaptive_training: bool = Field(
        False,
        description="Train teacher and student, where they learn labels, with a class that "
        "abstains, which takes up the rows that cannot be fitted (arXiv 2002.10319).",
    )


class DataSection(_Section):
    """Fields that preprocessing reads."""

    input_path: str = Field("", description="Folder or gs:// URI with train.*, test.*, …")
    data_format: DataFormat = Field("auto", description="Of all files; auto: each by its content.")
    text_column: str = Field("", description="Name of the column of text; empty: a usual name.")
    label_column: str = Field("", description="Name of the column of labels; empty: a usual name.")
    language_column: str = Field(
        "", description="Name of the column of languages; empty: a usual name."
    )
    group_column: str = Field(
        "", description="Rows that share its value stay in one split, such as a conversation's."
    )
    language: str = Field("", description="Language of the rows that name none, such as hindi.")
    max_malformed_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of a file's rows that may be malformed; they are left out and listed. "
        "More stop the run.",
    )
    normalisation: Literal["none", "standard", "romanised"] = Field(
        "standard",
        description="How text is normalised, in training and in serving; romanised also folds the "
        "spellings of Hindi in Latin letters.",
    )
    word_splitting: Literal["punctuation", "whitespace"] = Field(
        "punctuation",
        description="Words that get tags, in training and in serving: punctuation marks are words "
        "of their own, or words end only at spaces.",
    )
    data_check: Literal["errors", "warnings", "nothing"] = Field(
        "errors", description="What stops the run: errors of the data's check, warnings too, …"
    )
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="Cut from train when there is no validation file."
    )
    test_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="Cut from train when there is no test file."
    )
    few_shot: int | None = Field(
        None, ge=1, description="Training rows to keep of each label and language; None: all."
    )
    unknown_labels: Literal["error", "keep"] = Field(
        "error",
        description="A label of validation or test that train lacks: an error, or kept, in test, "
        "where it counts as wrong (out-of-scope text), and left out of validation.",
    )
    out_of_scope_label: str = Field(
        "",
        description="Label of the rows that no answer fits. It is none to be answered: such rows "
        "of train become a class that abstains, those of validation set the threshold.",
    )
    augmentation_size: int = Field(
        10_000, ge=0, description="Sentences made from the training text for the transfer set."
    )
    augmentation_methods: list[AugmentationMethod] = Field(
        list(get_args(AugmentationMethod)),
        min_length=1,
        description="How they are made, in equal shares of those that the data allow.",
    )
    vocabulary_extra_pieces: int = Field(
        4_000,
        ge=0,
        description="Pieces of the data's languages kept beyond those in the data, for new words.",
    )


_Layer = Annotated[int, Field(ge=0)]
_FolderName = Annotated[str, AfterValidator(plain_folder_name)]


class TeacherSection(_Section):
    """Fields for fine-tuning the teacher; None takes the value of the architecture's recipe."""

    teacher_name: str = Field(
        "multilingual-e5-small", min_length=1, description="Registry name, hub id or local folder."
    )
    teacher_epochs: int = Field(3, ge=1, description="At most.")
    teacher_batch_size: int = Field(16, ge=1, description="Sentences in a step.")
    teacher_devices: int = Field(
        1,
        ge=1,
        description="Processes that train it together on this machine, one a GPU (DDP); each takes "
        "teacher_batch_size rows a step.",
    )
    teacher_dropout: float = Field(0.1, ge=0, lt=1, description="In training.")
    teacher_learning_rate: float | None = Field(
        None, gt=0, description="Highest; None: by architecture and width."
    )
    teacher_weight_decay: float | None = Field(
        None, ge=0, description="Of AdamW; None: by architecture."
    )
    teacher_clip_grad_norm: float | None = Field(
        None, ge=0, description="None: by architecture (BERT 1.0, RoBERTa none); 0: no clipping."
    )
    teacher_early_stopping_patience: int = Field(2, ge=1, description="Epochs.")
    enable_teacher_checkpointing: bool = Field(
        True, description="Keep the fine-tuned teacher on disk after the run."
    )
    teacher_output_folder: _FolderName = Field(
        "teacher", min_length=1, description="Name of the teacher's folder in root_output_path."
    )
    teacher_exists: bool = Field(
        False, description="Load the fine-tuned teacher from the output folder."
    )
    teacher_layer_to_distil: _Layer | Annotated[list[_Layer], Field(min_length=1)] = Field(
        6,
        description="Layer whose hidden states are learnt, 0 being the embedding's output; of "
        "several, their mean.",
    )
    teacher_ensemble: int = Field(
        1, ge=1, description="Teachers, alike but for their seed, whose outputs are averaged."
    )
    teacher_accumulate_batches: int = Field(
        1,
        ge=1,
        description="Batches that make one step: large ones in little memory.",
    )


class StudentSection(_Section):
    """Fields for the student and its five stages."""

    distillation: bool = Field(True, description="False: the teacher itself is delivered.")
    student_family: Literal["lstm", "gru", "qrnn", "transformer"] = Field(
        "lstm", description="The student's encoder."
    )
    student_preset: Literal["tiny", "small", "base"] | None = Field(
        None,
        description="Sizes of the family, and the epochs, steps and logit loss that suit them; "
        "such fields win over it where they are given.",
    )
    student_word_emb_dim: int = Field(300, ge=1, description="Width of the embeddings.")
    student_lstm_dim: int = Field(
        600, ge=1, description="Width of the encoder; of recurrent ones, in each direction."
    )
    student_lstm_layers: int = Field(1, ge=1, description="Layers of the encoder.")
    student_lstm_dropout: float = Field(
        0.3, ge=0, lt=1, description="Before and after the encoder, and between its layers."
    )
    student_compression: float = Field(
        100.0,
        ge=0,
        description="Parameters of the teacher as loaded to one of the finished student, at "
        "least: pieces that are met least share rows of its embedding, where giving up half of "
        "them is enough, and costs at most 0.2 points on validation; 0: each has its own.",
    )
    student_epochs: int = Field(200, ge=1, description="At most, in each phase of a stage.")
    student_batch_size: int = Field(512, ge=1, description="Sentences in a step.")
    student_learning_rate: float = Field(1e-3, gt=0, description="Where each phase begins.")
    student_early_stopping_patience: int = Field(5, ge=1, description="Epochs.")
    student_ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Of a running mean of the weights, which is then what is kept; 0: none.",
    )
    distillation_schedule: Literal["five_stages", "no_unfreezing", "joint", "labels_only"] = Field(
        "five_stages", description="The order of losses and of the parts that are released."
    )
    distillation_stages: list[Annotated[int, Field(ge=1, le=5)]] | None = Field(
        None,
        min_length=1,
        description="Stages of the schedule that are not left out; null: all, but where a text has "
        "one label and no tags not the first, which such students gain nothing by.",
    )
    representation_loss: Literal["normalised_mse", "mse", "cosine"] = Field(
        "normalised_mse", description="How projected states are held against the teacher's."
    )
    logit_loss: Literal["mse", "kl", "decoupled_kl"] = Field(
        "mse", description="How logits are held against the teacher's."
    )
    distillation_temperature: float = Field(
        2.0, gt=0, description="Of the logit losses that compare probabilities: kl, decoupled_kl."
    )
    student_output_folder: _FolderName = Field(
        "student", min_length=1, description="Name of the student's folder in root_output_path."
    )


class DeliverySection(_Section):
    """Fields for export, quantisation and the bundle."""

    root_output_path: str = Field("", description="Folder for the outputs.")
    bundle_name: str = Field(
        "", pattern=r"^[a-z0-9]?([a-z0-9-]*[a-z0-9])?$", description="Default: the task's name."
    )
    bundle_version: str = Field("1", min_length=1, description="Of the served model; free text.")
    torchscript: bool = Field(False, description="Export the teacher as a TorchScript bundle too.")
    runtime: Literal["onnxruntime", "torchscript"] = Field(
        "onnxruntime", description="The engine that bundles are made for."
    )
    exported_program: bool = Field(
        False,
        description="Add model.pt2, torch's ExportedProgram, to the float32 bundle of a student "
        "whose family torch.export can hold: qrnn or transformer.",
    )
    quantization: Literal["int8", "float16"] | None = Field(
        "int8", description="Of the delivered bundle; None: float32 alone."
    )
    max_quantisation_loss: float = Field(
        0.02, ge=0, le=1, description="Points of the main metric (0 to 1) int8 may cost."
    )
    abstention: Literal["none", "probability", "familiarity"] = Field(
        "familiarity",
        description="What the bundle keeps silent by when it is low: nothing, the probability, or "
        "the probability together with how familiar the text is.",
    )
    abstention_target: Literal["auto", "coverage", "risk", "out_of_scope"] = Field(
        "auto",
        description="How the threshold is chosen on validation: at a share of texts to answer, at "
        "a share of answers that may be wrong, or between in-scope and out-of-scope texts; auto: "
        "the last where validation has such texts, else coverage.",
    )
    abstention_coverage: float = Field(
        0.95, gt=0, le=1, description="Least share of the validation texts to answer."
    )
    abstention_risk: float = Field(
        0.05, ge=0, lt=1, description="Largest share of the answers that may be wrong."
    )
    loggers: list[Literal["tensorboard", "csv", "mlflow", "wandb"]] = Field(
        ["tensorboard"],
        description="Where `saarthi train` logs losses, metrics, rates and what is frozen.",
    )
    explained_errors: int = Field(
        24,
        ge=0,
        description="Errors of the test split that are explained, at most, beside a third as many "
        "right answers; 0: none. The teacher takes about a second for each.",
    )
    production: bool = Field(
        False,
        description="At the end, delete what the run has made except bundles, metrics, report and "
        "run.json.",
    )


# Width of the embedding, width of the encoder and number of layers, by preset and family.
# docs/guides/students.md shows how they were chosen.
STUDENT_PRESETS: dict[str, dict[str, tuple[int, int, int]]] = {
    "tiny": {
        "lstm": (32, 64, 1),
        "gru": (32, 64, 1),
        "qrnn": (32, 64, 1),
        "transformer": (32, 64, 1),
    },
    "small": {
        "lstm": (100, 128, 1),
        "gru": (100, 128, 1),
        "qrnn": (100, 128, 1),
        "transformer": (100, 128, 1),
    },
    "base": {
        "lstm": (300, 600, 1),
        "gru": (300, 600, 1),
        "qrnn": (300, 600, 1),
        "transformer": (300, 384, 2),
    },
}
SIZE_FIELDS = ("student_word_emb_dim", "student_lstm_dim", "student_lstm_layers")
# Larger steps, and logits compared as probabilities. On held-out rows, both are better on average
# for intents, entities and parts of speech; entities are as good in half the epochs. Frame accuracy
# on the validation rows of Hinglish TOP: 65.2, and 63.2 without these two. At H 600 they are worse.
_LARGER_STEPS = {
    "student_epochs": 15,
    "student_batch_size": 128,
    "student_learning_rate": 3e-3,
    "logit_loss": "kl",
}
TRAINING_OF_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": _LARGER_STEPS,
    "small": _LARGER_STEPS,
    "base": {},  # the defaults, XtremeDistil's
}
PRESET_FIELDS = (*SIZE_FIELDS, *_LARGER_STEPS)

# Fields that change no artifact: output folder, loggers, and files removed at the end of a run.
NOT_IN_ARTIFACTS = ("root_output_path", "loggers", "production", "enable_teacher_checkpointing")

SECTIONS: dict[str, type[_Section]] = {
    "run": RunSection,
    "data": DataSection,
    "teacher": TeacherSection,
    "student": StudentSection,
    "delivery": DeliverySection,
}


class TrainConfig(RunSection, DataSection, TeacherSection, StudentSection, DeliverySection):
    """The whole configuration, read by `TrainConfig.from_mapping` and `from_yaml`."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        preset = values.get("student_preset") if isinstance(values, dict) else None
        if not isinstance(preset, str):
            return values  # a wrong value is reported later, by its field
        family = str(values.get("student_family", cls.model_fields["student_family"].default))
        sizes = STUDENT_PRESETS.get(preset, {}).get(family, ())
        training = TRAINING_OF_PRESETS.get(preset, {})
        return {**dict(zip(SIZE_FIELDS, sizes, strict=False)), **training, **values}

    @field_validator("precision", mode="before")
    @classmethod
    def _precision_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _folders_differ(self) -> Self:
        if self.teacher_output_folder.casefold() == self.student_output_folder.casefold():
            raise ValueError("teacher_output_folder and student_output_folder must differ")
        return self

    @model_validator(mode="after")
    def _one_way_with_doubtful_labels(self) -> Self:
        if self.self_adaptive_training and self.reweighting != "none":
            raise ValueError("self_adaptive_training and reweighting exclude each other")
        if self.self_adaptive_training and self.task in ("ner", "pos"):
            raise ValueError(f"self_adaptive_training: {self.task} gives texts no label")
        doubted = self.self_adaptive_training or self.reweighting != "none"
        if doubted and self.distillation_schedule == "joint":
            raise ValueError(
                "self_adaptive_training and reweighting act where a student learns from labels "
                "alone, and distillation_schedule: joint has no such phase; take another schedule"
            )
        return self

    @model_validator(mode="after")
    def _an_ensemble_is_distilled(self) -> Self:
        if self.teacher_ensemble > 1 and (self.torchscript or not self.distillation):
            raise ValueError(
                "teacher_ensemble: several teachers can be distilled but not delivered; set "
                "teacher_ensemble: 1, or distillation: true and torchscript: false"
            )
        return self

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], source: str = "configuration") -> Self:
        """Check a mapping of fields.

        Args:
            content: field names and values.
            source: name of the mapping in errors, such as the file's name.

        Raises:
            ConfigError: names every field that is unknown (with the nearest name) or wrong.
        """
        try:
            return cls.model_validate(dict(content))
        except ValidationError as error:
            lines = [_explain(problem, cls.model_fields) for problem in error.errors()]
            raise ConfigError(f"{source}: " + "; ".join(lines)) from None

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """Read a YAML file; `overrides` win over it. Relative paths stay as they are.

        Raises:
            ConfigError: the file cannot be read, is not a mapping, or a field is wrong.
        """
        return cls.from_mapping(overridden(read_yaml(path), overrides or {}), str(path))

    def to_yaml(self, path: str | Path) -> None:
        """Write every field."""
        text = yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)
        Path(path).write_text(text, encoding="utf-8")

    def section(self, *names: str) -> dict[str, Any]:
        """Return the fields of the named sections, on which a step depends."""
        fields = [field for name in names for field in SECTIONS[name].model_fields]
        return {field: getattr(self, field) for field in fields}

    def only(self, *sections: str) -> "TrainConfig":
        """The fields of the named sections alone; other fields raise an AttributeError."""
        return cast(TrainConfig, _narrowed(sections)(**self.section(*sections)))

    def run_folder(self, root: Path) -> RunFolder:
        """The files of a run of this configuration in the folder `root`."""
        return RunFolder(root, self.teacher_output_folder, self.student_output_folder)

    @property
    def layers_to_distil(self) -> list[int]:
        """The teacher's layers whose hidden states are learnt."""
        layers = self.teacher_layer_to_distil
        return layers if isinstance(layers, list) else [layers]

    @property
    def name(self) -> str:
        """The served model's name."""
        return self.bundle_name or self.task.replace("_", "-")


@cache
def _narrowed(sections: tuple[str, ...]) -> type[_Section]:
    """A model with the fields of these sections, and the properties of `TrainConfig`."""
    properties = {name: each for name, each in vars(TrainConfig).items() if type(each) is property}
    bases = tuple(SECTIONS[name] for name in sections)
    return type("Config", bases, {"__module__": __name__, **properties})


def overridden(fields: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Override fields; an overriding preset resets its fields."""
    if overrides.get("student_preset") is not None:
        fields = {name: value for name, value in fields.items() if name not in PRESET_FIELDS}
    return {**fields, **overrides}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file cannot be read or is not a mapping of fields.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; give a YAML configuration") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of fields, such as 'task: ner'")
    return content


def require(config: TrainConfig, *fields: str) -> None:
    """Check that fields without a sensible default were given.

    Raises:
        ConfigError: names the first missing field.
    """
    for field in fields:
        if not getattr(config, field):
            description = type(config).model_fields[field].description
            raise ConfigError(f"{field} is missing: {description}")


def _explain(problem: Any, known: Iterable[str]) -> str:
    field = ".".join(str(part) for part in problem["loc"]) or "configuration"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(field, list(known), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "see 'saarthi train --help'"
        return f"unknown field '{field}': {hint}"
    return f"{field}: {problem['msg']} (given: {problem.get('input')!r})"
