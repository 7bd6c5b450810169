"""Sections of the configuration: fields with defaults and descriptions."""

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, WrapValidator

from saarthi_lib.addresses import checked_address, input_address
from saarthi_lib.errors import ConfigError
from saarthi_lib.layout import plain_folder_name

Precision = Literal["64", "32", "16", "16-mixed", "bf16-mixed"]
DataFormat = Literal["auto", "csv", "tsv", "jsonl", "parquet", "conll", "conllu"]
AugmentationMethod = Literal[
    "words", "spans", "slots", "code_mixing", "neighbours", "vocabulary", "typos", "speech"
]


Count = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
FolderName = Annotated[str, Field(min_length=1), AfterValidator(plain_folder_name)]


def _checked(check: Callable[[str], str]) -> AfterValidator:
    """Check a text that may be an address."""

    def checked(text: str) -> str:
        try:
            return check(text)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(checked)


def _file_name(given: Any, check: Callable[[Any], Any]) -> Any:
    """Accept names of files that are not UTF-8; pydantic refuses their lone surrogates."""
    odd = isinstance(given, str) and given != given.encode(errors="ignore").decode()
    return given if odd else check(given)


InputPath = Annotated[str, WrapValidator(_file_name), _checked(input_address)]
LocalPath = Annotated[
    str, WrapValidator(_file_name), _checked(lambda text: checked_address(text, "", ()))
]


DEFAULT_LAYER = 6  # of the teacher, whose hidden states the student learns


def field(default: Any, description: str, **limits: Any) -> Any:
    """A field with its default, its description for people, and its limits."""
    return Field(default, description=description, **limits)


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


class RunSection(Section):
    """Fields that every step reads."""

    task: Literal["intent_classification", "text_classification", "ner", "pos", "joint"] = field(
        "intent_classification", "Task to train for; not given: detected from the data."
    )
    recipe: Literal["auto", "best", "classic"] = field(
        "auto",
        "Source of fields that are not given. auto: quality in minutes, by the data; best: more "
        "teachers, more text and a wider student, in more time; classic: the fixed defaults of "
        "this table.",
    )
    max_seq_len: int = field(
        26, "Longest text, in subword tokens; longer texts are cut.", ge=1, le=510
    )
    precision: Precision = field(
        "16-mixed",
        "Training precision. On a CPU, mixed precisions use bfloat16 if the CPU has instructions "
        "for it (AVX-512 BF16, AMX), else 32.",
    )
    fast_dev_run: bool = field(
        False, "Trial run: one epoch on about 64 rows. Its bundle is never published."
    )
    seed: Size = field(42, "Seed of all random choices.")
    device: str = field("auto", "Device for training.", pattern=r"^(auto|cpu|cuda|gpu|mps)$")
    reweighting: Literal["none", "last_layer", "full"] = field(
        "none",
        "Weight training rows by the agreement of their gradient with the trusted rows in clean.* "
        "(arXiv 1803.09050). Gradient: last_layer (in closed form) or full (the whole teacher).",
    )
    self_adaptive_training: bool = field(
        False,
        "Train teacher and student on labels with an extra abstention class, which absorbs rows "
        "that cannot be fitted (arXiv 2002.10319).",
    )
    loggers: list[Literal["tensorboard", "csv", "mlflow", "wandb"]] = field(
        ["tensorboard"], "Loggers of losses, metrics and learning rates, for each training."
    )


class DataSection(Section):
    """Fields that preprocessing reads."""

    input_path: InputPath = field(
        "",
        "Folder with train.*, test.*, …, or a single file; or its address: s3://, gs://, "
        "hf://datasets/…, or https:// of one file.",
    )
    start_from: LocalPath = field(
        "", "Folder of an earlier run: rows keep its splits; its teacher and student learn further."
    )
    data_format: DataFormat = field(
        "auto", "Format of all files; auto: detect it for each file by content."
    )
    text_column: str = field("", "Column of texts; empty: try the usual names.")
    label_column: str = field(
        "",
        "Column of labels, for ner and pos of tags or entities; empty: try the usual names.",
    )
    tags_column: str = field(
        "", "Column of tags or entities; empty: label_column for ner and pos, or the usual names."
    )
    language_column: str = field("", "Column of languages; empty: try the usual names.")
    group_column: str = field(
        "", "Column of groups, such as conversations; a group stays in one split."
    )
    language: str = field("", "Language of rows that lack one, such as hindi; empty: detect it.")
    languages: list[str] = field(
        [],
        "Languages of the service, such as [english, hindi]; a language without training rows "
        "needs unlabelled text in transfer.*.",
    )
    max_malformed_share: Share = field(
        0.05,
        "Largest share of malformed rows in a file; they are left out and listed. A larger share "
        "stops the run.",
    )
    normalization: Literal["none", "standard", "romanized"] = field(
        "standard", "Text normalization; romanized also unifies spellings of romanized Hindi."
    )
    word_splitting: Literal["punctuation", "whitespace"] = field(
        "punctuation",
        "Rule for the words that get tags, in training and serving: punctuation makes each "
        "punctuation mark a word; whitespace splits only at spaces.",
    )
    data_check: Literal["errors", "warnings", "nothing"] = field(
        "errors", "Findings of the data check that stop the run; warnings includes errors."
    )
    validation_fraction: float = field(
        0.1,
        "Share of train to cut if a validation file is missing; at 0.1 more, if labels with three "
        "or more rows need it.",
        gt=0,
        lt=0.5,
    )
    test_fraction: float = field(
        0.1,
        "Share of train to cut if a test file is missing; at 0.1 more, if labels with three or "
        "more rows need it.",
        gt=0,
        lt=0.5,
    )
    few_shot: int | None = field(
        None, "Training rows to keep for each label and language; None: all.", ge=1
    )
    unknown_labels: Literal["auto", "error", "keep"] = field(
        "auto",
        "Labels and tags of validation or test that train lacks. error: stop the run; keep: drop "
        "such rows of validation, and keep those of test (labels as out of scope, tags as wrong); "
        "auto: like keep, but stop if one looks like a misspelt label of train.",
    )
    out_of_scope_label: str = field(
        "",
        "Label of out-of-scope rows. The model never answers it: such rows in train become a "
        "class that abstains; in validation they help set the threshold.",
    )
    augmentation_size: Size = field(
        10_000, "Sentences to generate from train for the transfer set."
    )
    augmentation_methods: list[AugmentationMethod] = field(
        list(get_args(AugmentationMethod)),
        "Methods that generate sentences; methods that fit the data get equal shares.",
        min_length=1,
    )
    vocabulary_extra_tokens: Size = field(
        4_000, "Extra subword tokens in the data's languages to keep, for new words."
    )


class TeacherSection(Section):
    """Fields for fine-tuning the teacher; None selects the default of its architecture."""

    teacher_name: LocalPath = field(
        "multilingual-e5-small", "Registry name, hub id or local folder.", min_length=1
    )
    teacher_epochs: Count = field(3, "Most epochs.")
    teacher_batch_size: Count = field(16, "Batch size, in sentences.")
    teacher_sampling: Literal["uniform", "balanced"] = field(
        "uniform", "Sampling of training rows; balanced: rare labels and languages more often."
    )
    teacher_devices: Count = field(
        1, "Training processes, one per GPU (DDP), each with teacher_batch_size."
    )
    teacher_dropout: Rate = field(0.1, "Dropout in training.")
    teacher_learning_rate: float | None = field(
        None, "Peak learning rate; None: by architecture and width.", gt=0
    )
    teacher_weight_decay: float | None = field(
        None, "Weight decay of AdamW; None: by architecture.", ge=0
    )
    teacher_clip_grad_norm: float | None = field(
        None, "Gradient norm to clip at; None: by architecture (BERT 1.0, RoBERTa 0); 0: off.", ge=0
    )
    teacher_early_stopping_patience: Count = field(
        2, "Epochs without improvement before training stops."
    )
    enable_teacher_checkpointing: bool = field(
        True, "Keep the fine-tuned teacher on disk after the run."
    )
    teacher_output_folder: FolderName = field(
        "teacher", "Name of the teacher's folder in root_output_path."
    )
    teacher_exists: bool = field(False, "Load the fine-tuned teacher from the output folder.")
    teacher_layer_to_distil: Size | list[Size] = field(
        DEFAULT_LAYER,
        "Teacher layers whose mean hidden states the student learns; 0: embeddings; []: none. "
        "At the default they are computed only if a stage learns them.",
    )
    teacher_ensemble: Count = field(
        1, "Teachers that differ only in their seed; their outputs are averaged."
    )
    teacher_accumulate_batches: Count = field(
        1, "Batches per optimizer step, for large batches in little memory."
    )


class StudentSection(Section):
    """Fields for the student and its five stages."""

    distillation: bool = field(True, "Train a student; False: deliver the teacher.")
    student_family: Literal["lstm", "gru", "qrnn", "transformer"] = field(
        "lstm", "The student's encoder."
    )
    student_preset: Literal["tiny", "small", "base"] | None = field(
        None,
        "Sizes for the family, with matching epochs, batch size, learning rate and logit loss; "
        "explicit fields override the preset. null: by the recipe.",
    )
    student_word_emb_dim: Count = field(300, "Width of the embeddings.")
    student_lstm_dim: Count = field(
        600, "Width of the encoder; per direction for recurrent encoders."
    )
    student_lstm_layers: Count = field(1, "Layers of the encoder.")
    student_lstm_dropout: Rate = field(
        0.3, "Dropout before and after the encoder and between its layers."
    )
    student_compression: NotNegative = field(
        100.0,
        "Least ratio of the teacher's parameters, as loaded, to the student's. To reach it, the "
        "rarest subword tokens share embedding rows, if removing at most half of the rows is "
        "enough and costs at most 0.2 points on validation; 0: never share.",
    )
    student_epochs: Count = field(200, "Most epochs in each phase of a stage.")
    student_batch_size: Count = field(512, "Batch size, in sentences.")
    student_learning_rate: Positive = field(1e-3, "Learning rate at the start of each phase.")
    student_early_stopping_patience: Count = field(
        5, "Epochs without improvement before a phase stops."
    )
    student_ema_decay: Rate = field(
        0.0, "Decay of a running mean of the weights, which replaces the weights; 0: off."
    )
    distillation_schedule: Literal["five_stages", "no_unfreezing", "joint", "labels_only"] = field(
        "five_stages", "Order of the losses and of unfreezing."
    )
    distillation_stages: list[Annotated[int, Field(ge=1, le=5)]] | None = field(
        None,
        "Stages of the schedule to run; null: all, except stage 1 for tasks with one label per "
        "text and without tags, which do not gain from it.",
        min_length=1,
    )
    representation_loss: Literal["normalized_mse", "mse", "cosine"] = field(
        "normalized_mse", "Loss between projected states and the teacher's states."
    )
    logit_loss: Literal["mse", "kl", "decoupled_kl"] = field(
        "mse", "Loss between the student's and the teacher's logits."
    )
    distillation_temperature: Positive = field(
        2.0, "Temperature of the logit losses kl and decoupled_kl."
    )
    student_output_folder: FolderName = field(
        "student", "Name of the student's folder in root_output_path."
    )


class DeliverySection(Section):
    """Fields for export, quantization and the bundle."""

    root_output_path: LocalPath = field("", "Folder for the outputs.")
    bundle_name: str = field(
        "", "Name of the bundle; default: task name.", pattern=r"^[a-z0-9]?([a-z0-9-]*[a-z0-9])?$"
    )
    bundle_version: str = field(
        "", "Version of the bundle, free text; empty: the next number when published."
    )
    torchscript: bool = field(False, "Also export the teacher as TorchScript bundle.")
    runtime: Literal["onnxruntime", "torchscript"] = field(
        "onnxruntime", "Inference engine of the bundles."
    )
    quantization: Literal["int8", "float16"] | None = field(
        "int8", "Quantization of the delivered bundle; None: float32 only."
    )
    max_quantization_loss: Share = field(
        0.02, "Largest drop of the main metric (0 to 1) by quantization."
    )
    abstention: Literal["none", "probability", "familiarity"] = field(
        "familiarity",
        "Score that makes the bundle abstain when it is low: none, probability, or familiarity "
        "(probability combined with the familiarity of the text).",
    )
    abstention_target: Literal["auto", "coverage", "risk", "out_of_scope"] = field(
        "auto",
        "Target of the threshold on validation. coverage: share of texts answered; risk: share of "
        "wrong answers; out_of_scope: separate in-scope from out-of-scope texts; auto: "
        "out_of_scope if validation has such texts, else coverage.",
    )
    abstention_coverage: float = field(
        0.95, "Share of new texts to answer, on average.", gt=0, le=1
    )
    abstention_risk: Rate = field(
        0.05,
        "Largest share of the answers to new texts that may be wrong (bound with 95% confidence); "
        "a run whose validation rows cannot support it is refused.",
    )
    explained_errors: Size = field(
        0,
        "Most test errors that a run explains word by word, plus a third as many right answers. "
        "Each takes a second or more; `saarthi explain` does it on demand.",
    )
    production: bool = field(
        False, "Keep only bundles, metrics, report and run.json at the end of the run."
    )


# Fields without effect on artifacts: output folder, loggers, and files to keep after a run.
NOT_IN_ARTIFACTS = ("root_output_path", "loggers", "production", "enable_teacher_checkpointing")

SECTIONS: dict[str, type[Section]] = {
    "run": RunSection,
    "data": DataSection,
    "teacher": TeacherSection,
    "student": StudentSection,
    "delivery": DeliverySection,
}


def _is_text(annotation: Any) -> bool:
    """Whether all values of a type are texts, lists of texts, or None."""
    if annotation in (str, list, type(None)) or isinstance(annotation, str):
        return True
    parts = (get_origin(annotation), *get_args(annotation))
    return parts[0] is not None and all(
        part in (Literal, Union, UnionType) or _is_text(part) for part in parts
    )


# Fields whose values are texts, of free words or of a choice.
TEXT_FIELDS = frozenset(
    name
    for section in SECTIONS.values()
    for name, each in section.model_fields.items()
    if _is_text(each.annotation)
)
