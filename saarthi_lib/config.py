"""The training configuration: a flat mapping of fields, with defaults and checks.

Fields are grouped into sections by the steps that read them. A step (and a pipeline task) depends
only on its own sections and its inputs, so a new student size does not make a teacher stale.
"""

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from saarthi_lib.errors import ConfigError
from saarthi_lib.layout import RunFolder, current_names, plain_folder_name
from saarthi_lib.recipe import PRESET_FIELDS
from saarthi_lib.text.language_names import NAMED_LANGUAGES, is_language

Precision = Literal["64", "32", "16", "16-mixed", "bf16-mixed"]
DataFormat = Literal["auto", "csv", "tsv", "jsonl", "parquet", "conll", "conllu"]
AugmentationMethod = Literal[
    "words", "spans", "slots", "code_mixing", "neighbours", "vocabulary", "typos", "speech"
]


# Shown with every result of a run with `fast_dev_run`.
TRIAL = (
    "trial run: its numbers mean nothing, since it trains for one epoch on a few rows; for a real "
    "run set fast_dev_run: false"
)


class Section(BaseModel):
    """Fields of the configuration, and the reasons for those that the recipe chose."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)
    _reasons: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def reasons(self) -> dict[str, str]:
        """Reason for each field that the recipe chose."""
        return self._reasons

    def with_reasons(self, reasons: Mapping[str, str]) -> Self:
        """Return a copy with these reasons."""
        copy = self.model_copy()
        copy._reasons = dict(reasons)
        return copy

    def section(self, *names: str) -> dict[str, Any]:
        """Return the fields of the named sections."""
        fields = dict.fromkeys(field for name in names for field in SECTIONS[name].model_fields)
        return {field: getattr(self, field) for field in fields}

    def given(self, *names: str) -> dict[str, Any]:
        """Return the fields of the named sections that the user gave or a recipe chose."""
        fields = self.section(*names).items()
        return {field: value for field, value in fields if field in self.model_fields_set}

    def only(self, *sections: str) -> "TrainConfig":
        """Return only the named sections; access to other fields raises an AttributeError."""
        narrowed = _narrowed(sections)(**self.given(*sections)).with_reasons(self.reasons)
        return cast(TrainConfig, narrowed)


class RunSection(Section):
    """Fields that every step reads."""

    task: Literal["intent_classification", "text_classification", "ner", "pos", "joint"] = Field(
        "intent_classification", description="Task to train for."
    )
    recipe: Literal["auto", "best", "classic"] = Field(
        "auto",
        description="Source of fields that are not given. auto: quality in minutes, by the data; "
        "best: more teachers, more text and a wider student, in more time; classic: the fixed "
        "defaults of this table.",
    )
    max_seq_len: int = Field(
        26, ge=1, le=510, description="Longest text, in subword tokens; longer texts are cut."
    )
    precision: Precision = Field(
        "16-mixed",
        description="Training precision. On a CPU, mixed precisions use bfloat16 if the CPU has "
        "instructions for it (AVX-512 BF16, AMX), else 32.",
    )
    fast_dev_run: bool = Field(
        False,
        description="Trial run: one epoch on about 64 rows, to check that all steps run. Its "
        "bundle cannot be published or rolled out.",
    )
    seed: int = Field(42, ge=0, description="Seed of all random choices.")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda|gpu|mps)$", description="Device for training."
    )
    reweighting: Literal["none", "last_layer", "full"] = Field(
        "none",
        description="Weight training rows by the agreement of their gradient with the trusted rows "
        "in clean.* (arXiv 1803.09050). Gradient: last_layer (in closed form) or full (the whole "
        "teacher).",
    )
    self_adaptive_training: bool = Field(
        False,
        description="Train teacher and student on labels with an extra abstention class, which "
        "absorbs rows that cannot be fitted (arXiv 2002.10319).",
    )


class DataSection(Section):
    """Fields that preprocessing reads."""

    input_path: str = Field("", description="Folder or gs:// URI with train.*, test.*, …")
    data_format: DataFormat = Field(
        "auto", description="Format of all files; auto: detect it for each file by content."
    )
    text_column: str = Field("", description="Column of texts; empty: try the usual names.")
    label_column: str = Field("", description="Column of labels; empty: try the usual names.")
    language_column: str = Field("", description="Column of languages; empty: try the usual names.")
    group_column: str = Field(
        "", description="Column of groups, such as conversations; a group stays in one split."
    )
    language: str = Field(
        "", description="Language of rows that lack one, such as hindi; empty: detect it."
    )
    languages: list[str] = Field(
        [],
        description="Languages of the service, such as [english, hindi]; a language without "
        "training rows needs unlabelled text in transfer.*.",
    )
    max_malformed_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest share of malformed rows in a file; they are left out and listed. A "
        "larger share stops the run.",
    )
    normalization: Literal["none", "standard", "romanized"] = Field(
        "standard",
        description="Text normalization in training and serving; romanized also unifies spellings "
        "of Hindi in Latin letters.",
    )
    word_splitting: Literal["punctuation", "whitespace"] = Field(
        "punctuation",
        description="Rule for the words that get tags, in training and serving: punctuation makes "
        "each punctuation mark a word; whitespace splits only at spaces.",
    )
    data_check: Literal["errors", "warnings", "nothing"] = Field(
        "errors",
        description="Findings of the data check that stop the run; warnings includes errors.",
    )
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="Share of train to cut if a validation file is missing."
    )
    test_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="Share of train to cut if a test file is missing."
    )
    few_shot: int | None = Field(
        None, ge=1, description="Training rows to keep for each label and language; None: all."
    )
    unknown_labels: Literal["auto", "error", "keep"] = Field(
        "auto",
        description="Labels and tags of validation or test that train lacks. error: stop the run; "
        "keep: drop such rows of validation, and keep those of test, where a label is out of scope "
        "and a tag counts as wrong; auto: like keep, but stop if one looks like a misspelt label "
        "of train.",
    )
    out_of_scope_label: str = Field(
        "",
        description="Label of out-of-scope rows. The model never answers it: such rows in train "
        "become a class that abstains; in validation they help set the threshold.",
    )
    augmentation_size: int = Field(
        10_000, ge=0, description="Sentences to generate from train for the transfer set."
    )
    augmentation_methods: list[AugmentationMethod] = Field(
        list(get_args(AugmentationMethod)),
        min_length=1,
        description="Methods that generate sentences; methods that fit the data get equal shares.",
    )
    vocabulary_extra_tokens: int = Field(
        4_000,
        ge=0,
        description="Extra subword tokens in the data's languages to keep, for new words.",
    )


_Layer = Annotated[int, Field(ge=0)]
_FolderName = Annotated[str, AfterValidator(plain_folder_name)]


class TeacherSection(Section):
    """Fields for fine-tuning the teacher; None selects the default of its architecture."""

    teacher_name: str = Field(
        "multilingual-e5-small", min_length=1, description="Registry name, hub id or local folder."
    )
    teacher_epochs: int = Field(3, ge=1, description="Most epochs.")
    teacher_batch_size: int = Field(16, ge=1, description="Batch size, in sentences.")
    teacher_sampling: Literal["uniform", "balanced"] = Field(
        "uniform",
        description="Sampling of training rows; balanced draws rows of rare labels and languages "
        "more often.",
    )
    teacher_devices: int = Field(
        1,
        ge=1,
        description="Training processes on this machine, one per GPU (DDP); the batch size of each "
        "is teacher_batch_size.",
    )
    teacher_dropout: float = Field(0.1, ge=0, lt=1, description="Dropout in training.")
    teacher_learning_rate: float | None = Field(
        None, gt=0, description="Peak learning rate; None: by architecture and width."
    )
    teacher_weight_decay: float | None = Field(
        None, ge=0, description="Weight decay of AdamW; None: by architecture."
    )
    teacher_clip_grad_norm: float | None = Field(
        None,
        ge=0,
        description="Gradient norm to clip at; None: by architecture (BERT 1.0, RoBERTa 0); 0: "
        "off.",
    )
    teacher_early_stopping_patience: int = Field(
        2, ge=1, description="Epochs without improvement before training stops."
    )
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
        description="Teacher layer whose hidden states the student learns; 0 is the embedding "
        "output. The hidden states of several layers are averaged.",
    )
    teacher_ensemble: int = Field(
        1, ge=1, description="Teachers that differ only in their seed; their outputs are averaged."
    )
    teacher_accumulate_batches: int = Field(
        1,
        ge=1,
        description="Batches per optimizer step, for large batches in little memory.",
    )


class StudentSection(Section):
    """Fields for the student and its five stages."""

    distillation: bool = Field(True, description="Train a student; False: deliver the teacher.")
    student_family: Literal["lstm", "gru", "qrnn", "transformer"] = Field(
        "lstm", description="The student's encoder."
    )
    student_preset: Literal["tiny", "small", "base"] | None = Field(
        None,
        description="Sizes for the family, with matching epochs, batch size, learning rate and "
        "logit loss; explicit fields override the preset. null: by the recipe.",
    )
    student_word_emb_dim: int = Field(300, ge=1, description="Width of the embeddings.")
    student_lstm_dim: int = Field(
        600, ge=1, description="Width of the encoder; per direction for recurrent encoders."
    )
    student_lstm_layers: int = Field(1, ge=1, description="Layers of the encoder.")
    student_lstm_dropout: float = Field(
        0.3, ge=0, lt=1, description="Dropout before and after the encoder and between its layers."
    )
    student_compression: float = Field(
        100.0,
        ge=0,
        description="Least ratio of the teacher's parameters, as loaded, to the student's. To "
        "reach it, the rarest subword tokens share embedding rows, if removing at most half of the "
        "rows is enough and costs at most 0.2 points on validation; 0: never share.",
    )
    student_epochs: int = Field(200, ge=1, description="Most epochs in each phase of a stage.")
    student_batch_size: int = Field(512, ge=1, description="Batch size, in sentences.")
    student_learning_rate: float = Field(
        1e-3, gt=0, description="Learning rate at the start of each phase."
    )
    student_early_stopping_patience: int = Field(
        5, ge=1, description="Epochs without improvement before a phase stops."
    )
    student_ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of a running mean of the weights, which replaces the weights; 0: off.",
    )
    distillation_schedule: Literal["five_stages", "no_unfreezing", "joint", "labels_only"] = Field(
        "five_stages", description="Order of the losses and of unfreezing."
    )
    distillation_stages: list[Annotated[int, Field(ge=1, le=5)]] | None = Field(
        None,
        min_length=1,
        description="Stages of the schedule to run; null: all, except stage 1 for tasks with one "
        "label per text and without tags, which do not gain from it.",
    )
    representation_loss: Literal["normalized_mse", "mse", "cosine"] = Field(
        "normalized_mse", description="Loss between projected states and the teacher's states."
    )
    logit_loss: Literal["mse", "kl", "decoupled_kl"] = Field(
        "mse", description="Loss between the student's and the teacher's logits."
    )
    distillation_temperature: float = Field(
        2.0, gt=0, description="Temperature of the logit losses kl and decoupled_kl."
    )
    student_output_folder: _FolderName = Field(
        "student", min_length=1, description="Name of the student's folder in root_output_path."
    )


class DeliverySection(Section):
    """Fields for export, quantization and the bundle."""

    root_output_path: str = Field("", description="Folder for the outputs.")
    bundle_name: str = Field(
        "",
        pattern=r"^[a-z0-9]?([a-z0-9-]*[a-z0-9])?$",
        description="Name of the bundle; default: task name.",
    )
    bundle_version: str = Field("1", min_length=1, description="Version of the bundle; free text.")
    torchscript: bool = Field(False, description="Also export the teacher as TorchScript bundle.")
    runtime: Literal["onnxruntime", "torchscript"] = Field(
        "onnxruntime", description="Inference engine of the bundles."
    )
    quantization: Literal["int8", "float16"] | None = Field(
        "int8", description="Quantization of the delivered bundle; None: float32 only."
    )
    max_quantization_loss: float = Field(
        0.02, ge=0, le=1, description="Largest drop of the main metric (0 to 1) by quantization."
    )
    abstention: Literal["none", "probability", "familiarity"] = Field(
        "familiarity",
        description="Score that makes the bundle abstain when it is low: none, probability, or "
        "familiarity (probability combined with the familiarity of the text).",
    )
    abstention_target: Literal["auto", "coverage", "risk", "out_of_scope"] = Field(
        "auto",
        description="Target of the threshold on validation. coverage: share of texts answered; "
        "risk: share of wrong answers; out_of_scope: separate in-scope from out-of-scope texts; "
        "auto: out_of_scope if validation has such texts, else coverage.",
    )
    abstention_coverage: float = Field(
        0.95, gt=0, le=1, description="Share of new texts to answer, on average."
    )
    abstention_risk: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Largest share of the answers to new texts that may be wrong (bound with 95% "
        "confidence); a run whose validation rows cannot support it is refused.",
    )
    loggers: list[Literal["tensorboard", "csv", "mlflow", "wandb"]] = Field(
        ["tensorboard"],
        description="Loggers of `saarthi train` for losses, metrics, rates and trained parameters.",
    )
    explained_errors: int = Field(
        24,
        ge=0,
        description="Most test errors to explain, plus a third as many right answers; 0: none. The "
        "teacher takes about one second for each.",
    )
    production: bool = Field(
        False,
        description="Delete all files at the end of the run except bundles, metrics, report and "
        "run.json.",
    )


_REMOVED = "exported_program"
# Fields without effect on artifacts: output folder, loggers, and files to keep after a run.
NOT_IN_ARTIFACTS = ("root_output_path", "loggers", "production", "enable_teacher_checkpointing")

SECTIONS: dict[str, type[Section]] = {
    "run": RunSection,
    "data": DataSection,
    "teacher": TeacherSection,
    "student": StudentSection,
    "delivery": DeliverySection,
}


class TrainConfig(RunSection, DataSection, TeacherSection, StudentSection, DeliverySection):
    """The whole configuration; create it with `from_mapping` or `from_yaml`."""

    @model_validator(mode="before")
    @classmethod
    def _null_preset_is_not_given(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("student_preset", "") is not None:
            return values
        return {field: value for field, value in values.items() if field != "student_preset"}

    @model_validator(mode="before")
    @classmethod
    def _numbers_as_text(cls, values: Any) -> Any:
        """Accept whole numbers in fields of text: `label_column: 2`."""
        if not isinstance(values, dict):
            return values
        texts = {name for name, field in cls.model_fields.items() if field.annotation is str}
        return {
            name: str(value) if name in texts and type(value) is int else value
            for name, value in values.items()
        }

    @field_validator("languages", mode="before")
    @classmethod
    def _languages_as_list(cls, value: Any) -> Any:
        """Accept one text, `hindi, english`, instead of a list."""
        if isinstance(value, str):
            return [part for part in re.split(r"\s*[,;]\s*", value.strip()) if part]
        return value

    @field_validator("languages")
    @classmethod
    def _languages_are_known(cls, value: list[str]) -> list[str]:
        for name in value:
            if not is_language(name):
                near = difflib.get_close_matches(name.lower(), sorted(NAMED_LANGUAGES))
                hint = f"did you mean {' or '.join(near)}?" if near else "give its English name"
                raise ValueError(f"'{name}' is not a known language; {hint}")
        return value

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
            source: name of the mapping in errors, such as the file name.

        Raises:
            ConfigError: fields are unknown or wrong; the message lists them all, and suggests the
                nearest name for an unknown field.
        """
        try:
            return cls.model_validate(_without_removed(current_names(content, source), source))
        except ValidationError as error:
            lines = [_explain(problem, cls.model_fields) for problem in error.errors()]
            raise ConfigError(f"{source}: " + "; ".join(lines)) from None

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """Read a YAML file; `overrides` take precedence. Relative paths stay relative.

        Raises:
            ConfigError: the file cannot be read, is not a mapping, or a field is wrong.
        """
        return cls.from_mapping(overridden(read_yaml(path), overrides or {}), str(path))

    def to_yaml(self, path: str | Path) -> None:
        """Write the fields that were given or resolved to a YAML file."""
        Path(path).write_text(self.as_yaml(), encoding="utf-8")

    def as_yaml(self) -> str:
        """The fields that were given or resolved, as YAML."""
        return yaml.safe_dump(self.given(*SECTIONS), sort_keys=False, allow_unicode=True)

    def run_folder(self, root: Path) -> RunFolder:
        """File layout of a run with this configuration in the folder `root`."""
        return RunFolder(
            root, self.teacher_output_folder, self.student_output_folder, trial=self.fast_dev_run
        )

    @property
    def layers_to_distil(self) -> list[int]:
        """Teacher layers whose hidden states the student learns."""
        layers = self.teacher_layer_to_distil
        return layers if isinstance(layers, list) else [layers]

    @property
    def name(self) -> str:
        """Name of the served model."""
        return self.bundle_name or self.task.replace("_", "-")


@cache
def _narrowed(sections: tuple[str, ...]) -> type[Section]:
    """Model class with the fields of these sections and the properties of `TrainConfig`."""
    properties = {name: each for name, each in vars(TrainConfig).items() if type(each) is property}
    bases = tuple(SECTIONS[name] for name in sections)
    return type("Config", bases, {"__module__": __name__, **properties})


def overridden(fields: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Override fields; an overriding preset resets its fields."""
    fields = current_names(fields, "configuration")
    overrides = current_names(overrides, "--set")
    if overrides.get("student_preset") is not None:
        fields = {name: value for name, value in fields.items() if name not in PRESET_FIELDS}
    return {**fields, **overrides}


def _without_removed(fields: dict[str, Any], source: str) -> dict[str, Any]:
    """Drop removed fields that are off: earlier versions wrote them into runs and bundles."""
    if fields.pop(_REMOVED, None):
        raise ConfigError(
            f"{source}: {_REMOVED} was removed, model.pt2 is no longer written; delete the field. "
            "Bundles have model.pt (TorchScript) and, with runtime: onnxruntime, model.onnx"
        )
    return fields


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file cannot be read or is not a mapping of fields.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; give a YAML configuration") from None
    except IsADirectoryError:
        raise ConfigError(
            f"{path}: is a folder; give a YAML configuration. For a data folder, write one with: "
            f"saarthi init {shlex.quote(str(path))}"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of fields, such as 'task: ner'")
    return content


def read_settings(pairs: list[str], option: str = "--set") -> dict[str, Any]:
    """Read `field=value` overrides. Values are YAML, so `3` is a number and `null` is None.

    Raises:
        ConfigError: an override is not `field=value`, or its value is not YAML.
    """
    settings = {}
    for pair in pairs:
        field, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"{option} {pair}: must be of the form field=value")
        try:
            settings[field.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{option} {pair}: the value is not YAML: {error}") from error
    return settings


def require(config: TrainConfig, *fields: str) -> None:
    """Check that fields without a usable default are set.

    Raises:
        ConfigError: a field is empty; the message names the first one.
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
    given = problem.get("input")
    if problem["type"] in ("string_type", "list_type") and _is_misread(given):
        text = str(given) if not isinstance(given, bool) else "yes" if given else "no"
        return f'{field}: YAML reads the value as {given!r}; quote it, such as {field}: "{text}"'
    return f"{field}: {problem['msg']} (given: {given!r})"


def _is_misread(value: Any) -> bool:
    """Whether YAML has likely read a text as another type: no, 1.10, 2024-01-31."""
    return isinstance(value, bool | float | date)
