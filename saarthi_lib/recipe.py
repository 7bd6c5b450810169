"""Recipes: resolve the fields that the user did not give from facts about the data.

Each rule gives a value and a reason, or None to keep the field's default. A field that the user
gives always wins. `recipe: classic` keeps all defaults, which are XtremeDistil's values. The values
of `auto` come from a benchmark's settings, chosen on validation rows (docs/benchmarks.md).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from saarthi_lib.config import RunSection, TrainConfig

LONGEST = 510  # subword tokens that any teacher reads
MANY_ROWS = 5_000
MANY_ROWS_OF_BEST = 1_000
# Width of the embedding, width of the encoder and number of layers, by preset and family.
# docs/benchmarks.md has their latencies and sizes.
_FAMILIES = ("lstm", "gru", "qrnn", "transformer")
STUDENT_PRESETS: dict[str, dict[str, tuple[int, int, int]]] = {
    "tiny": dict.fromkeys(_FAMILIES, (32, 64, 1)),
    "small": dict.fromkeys(_FAMILIES, (100, 128, 1)),
    "base": {**dict.fromkeys(_FAMILIES, (300, 600, 1)), "transformer": (300, 384, 2)},
}
SIZE_FIELDS = ("student_word_emb_dim", "student_lstm_dim", "student_lstm_layers")
# Larger steps and a KL loss on logits. On held-out rows, both are better on average for intents,
# entities and parts of speech; entities reach the same quality in half the epochs. Frame accuracy
# on validation of Hinglish TOP: 65.2 with both, 63.2 without. At H 600 both are worse.
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


@dataclass(frozen=True)
class Facts:
    """Facts about prepared data that the rules use; `data.json` holds them.

    Attributes:
        task: task of the run.
        rows: number of training rows.
        languages: languages of the service, and those of at least 2% of the training rows or of the
            user's unlabelled rows (one may be "unknown"); sorted.
        needed_length: subword tokens that cover 99.5% of the training and validation texts, and
            all their entities; 0 before it is known.
        train_tokens: subword tokens in train; 0 before they are known.
        transfer_tokens: subword tokens in the transfer set; 0 before they are known.
    """

    task: str
    rows: int
    languages: tuple[str, ...]
    needed_length: int = 0
    train_tokens: int = 0
    transfer_tokens: int = 0

    @property
    def spoken(self) -> bool:
        """Whether the texts are requests to a bot, which are short."""
        return self.task in ("intent_classification", "joint")

    @property
    def english_only(self) -> bool:
        """Whether English is the only language."""
        return self.languages == ("english",)

    @classmethod
    def of(cls, content: dict[str, Any]) -> Self:
        """Read the facts from `data.json`."""
        return cls(**{**content, "languages": tuple(content["languages"])})

    def to_dict(self) -> dict[str, Any]:
        """Content for `data.json`."""
        return asdict(self)


Choice = tuple[Any, str]  # value and reason
Rule = Callable[[Any, Facts], Choice | None]
C = TypeVar("C", bound="RunSection")


def resolve(config: C, facts: Facts) -> C:
    """Resolve the fields of a configuration that the user did not give.

    Args:
        config: the whole configuration, or some of its sections. A rule reads only its own section
            and the section `run`, so a step gets the same values with fewer sections.
        facts: facts about the data.

    Returns:
        The configuration with these fields set, and with their reasons.
    """
    # A preset that the user gives sets its fields with any recipe.
    rules = _PRESET_RULES if config.recipe == "classic" else _RULES
    given = frozenset(config.model_fields_set)
    for field in _RULES:
        if field in config.model_fields_set or field not in type(config).model_fields:
            continue
        without = field.startswith("student_") and not getattr(config, "distillation", True)
        rule = None if without else rules.get(field)
        choice = rule(_Given(config, given), facts) if rule else None
        if choice is not None:
            value, reason = choice
            reasons = {**config.reasons, field: reason}
            config = config.model_copy(update={field: value}).with_reasons(reasons)
        elif facts.train_tokens:  # all facts are known: the field keeps its default
            config = config.model_copy(update={field: getattr(config, field)})
    return config


def describe(config: "RunSection", fields: Sequence[str]) -> list[str]:
    """Lines `field: value (reason)` for the fields that the recipe chose among these."""
    return [
        f"{field}: {getattr(config, field)} ({reason})"
        for field, reason in config.reasons.items()
        if field in fields
    ]


def with_one_teacher(config: "TrainConfig") -> "TrainConfig":
    """Keep the recipe from choosing an ensemble for a run that delivers its teacher."""
    delivered = config.torchscript or not config.distillation
    if not delivered or "teacher_ensemble" in config.model_fields_set:
        return config
    reasons = {**config.reasons, "teacher_ensemble": "an ensemble cannot be delivered"}
    return config.model_copy(update={"teacher_ensemble": 1}).with_reasons(reasons)


def with_members(config: "TrainConfig", teacher: dict[str, Any]) -> "TrainConfig":
    """Take the size of an existing ensemble from its `teacher.json`."""
    if "teacher_ensemble" in config.model_fields_set:
        return config
    reasons = {**config.reasons, "teacher_ensemble": "the existing teacher"}
    members = {"teacher_ensemble": teacher.get("members", 1)}
    return config.model_copy(update=members).with_reasons(reasons)


def settled(config: "TrainConfig", *sections: str) -> dict[str, Any]:
    """Fields of these sections, without those that are left to the recipe.

    Two configurations with the same settled fields have the same results on the same data.
    """
    fields = config.section(*sections).items()
    return {
        field: value
        for field, value in fields
        if field in config.model_fields_set or field not in RESOLVED
    }


class _Given:
    """A configuration with the names of the fields that the user gave."""

    def __init__(self, config: "RunSection", given: frozenset[str]) -> None:
        self._config = config
        self.given = given

    def __getattr__(self, field: str) -> Any:
        return getattr(self._config, field)

    @property
    def best(self) -> bool:
        return bool(self._config.recipe == "best")


def _has_many_rows(config: _Given, facts: Facts) -> bool:
    """Whether the rows can train a wider student; with few rows, a small one learns as much."""
    if config.best:
        return facts.rows > MANY_ROWS_OF_BEST
    return facts.spoken and facts.rows > MANY_ROWS


# --- data -----------------------------------------------------------------------------------------


def _max_seq_len(config: _Given, facts: Facts) -> Choice | None:
    if not facts.needed_length:
        return None
    floor = 32 if facts.task.endswith("classification") else 64
    # A quarter more, rounded up to 16: users' texts are longer than those in the files.
    room = 16 * math.ceil(1.25 * facts.needed_length / 16)
    covered = "99.5% of the texts" + ("" if floor == 32 else " and all entities")
    if room > LONGEST:
        return LONGEST, f"the most that teachers read; {covered} need {facts.needed_length} tokens"
    reason = f"{facts.needed_length} tokens cover {covered}; the service gets room for longer ones"
    return max(floor, room), reason


def _augmentation_size(config: _Given, facts: Facts) -> Choice | None:
    languages = max(1, len(facts.languages))
    if _has_many_rows(config, facts):
        return 40_000, f"{facts.rows:,} rows justify more transfer text"
    base = 20_000 if config.best else 10_000
    return max(base, 3_000 * languages), f"transfer text in {_languages(facts)}"


def _extra_tokens(config: _Given, facts: Facts) -> Choice | None:
    languages = max(1, len(facts.languages))
    if _has_many_rows(config, facts):
        return 8_000, f"{facts.rows:,} rows justify more new words"
    return max(4_000, 1_500 * languages), f"new words in {_languages(facts)}"


# --- teacher --------------------------------------------------------------------------------------


def _teacher_name(config: _Given, facts: Facts) -> Choice | None:
    if facts.english_only:
        return "minilm", "all texts are English"
    return "multilingual-e5-small", f"languages: {_languages(facts)}"


def _teacher_ensemble(config: _Given, facts: Facts) -> Choice | None:
    if config.teacher_exists:
        return None
    if facts.english_only and config.teacher_name == "minilm":
        number = 5 if config.best else 3
        return number, f"{number} small English teachers are better than one multilingual teacher"
    return (3, "the recipe best averages three teachers") if config.best else None


def _teacher_epochs(config: _Given, facts: Facts) -> Choice | None:
    if config.teacher_exists:
        return None
    # Members of an ensemble need fewer epochs: their average is better than each of them.
    fewest = 5 if config.teacher_ensemble == 1 else 3
    value = min(12, max(fewest, round(20_000 / facts.rows)))
    return value, f"about 20,000 sentences, in {fewest} to 12 epochs, for {facts.rows:,} rows"


def _teacher_patience(config: _Given, facts: Facts) -> Choice | None:
    if config.teacher_exists:
        return None
    return config.teacher_epochs, "the learning rate falls to zero, so training runs to its end"


def _teacher_batch_size(config: _Given, facts: Facts) -> Choice | None:
    if config.teacher_exists:
        return None
    if facts.rows > MANY_ROWS:
        return 32, f"fewer steps for more than {MANY_ROWS:,} rows"
    return 16, f"more steps for at most {MANY_ROWS:,} rows"


# --- student --------------------------------------------------------------------------------------


def _student_preset(config: _Given, facts: Facts) -> Choice | None:
    return "small", "about a million parameters, trained in minutes"


def _from_preset(field: str) -> Rule:
    def rule(config: _Given, facts: Facts) -> Choice | None:
        if config.student_preset is None:
            return None
        sizes = STUDENT_PRESETS[config.student_preset][config.student_family]
        values = dict(zip(SIZE_FIELDS, sizes, strict=True))
        values |= TRAINING_OF_PRESETS[config.student_preset]
        if field not in values:
            return None
        return values[field], f"student_preset {config.student_preset}"

    return rule


def _wider(config: _Given, facts: Facts) -> bool:
    """Whether the rows can train a student that is wider than its preset."""
    chosen_here = config.given.isdisjoint(("student_preset", "student_lstm_dim"))
    recurrent = config.student_family in ("lstm", "gru")
    return chosen_here and recurrent and _has_many_rows(config, facts)


def _if_wider(value: Any, otherwise: Rule = lambda config, facts: None) -> Rule:
    def rule(config: _Given, facts: Facts) -> Choice | None:
        if _wider(config, facts):
            return value, f"{facts.rows:,} rows can train a wider student"
        return otherwise(config, facts)

    return rule


def _student_epochs(config: _Given, facts: Facts) -> Choice | None:
    if not facts.train_tokens:
        return None
    training = TRAINING_OF_PRESETS.get(config.student_preset or "base", {})
    epochs = training.get("student_epochs", 200)
    if _wider(config, facts):
        epochs = 10
    read = facts.train_tokens
    if config.distillation_schedule != "labels_only":
        read += facts.transfer_tokens
    budget = 750_000 if config.best else 375_000  # tokens
    value = max(1, round(epochs * min(1.0, budget / read)))
    return value, f"{epochs} epochs for up to {budget:,} tokens, fewer for more; here {read:,}"


def _student_patience(config: _Given, facts: Facts) -> Choice | None:
    if config.student_preset == "base":
        return None  # 200 epochs: stop early
    return 60, "the learning rate falls to zero, so each phase runs to its end"


# --- delivery -------------------------------------------------------------------------------------


def _abstention_coverage(config: _Given, facts: Facts) -> Choice | None:
    if facts.task != "intent_classification":
        return None
    return 0.9, "many questions to a bot are out of scope"


def _languages(facts: Facts) -> str:
    return ", ".join(facts.languages) or "an unknown language"


_PRESET_RULES: dict[str, Rule] = {field: _from_preset(field) for field in PRESET_FIELDS}
# In this order: a rule may read the fields above it.
_RULES: dict[str, Rule] = {
    "max_seq_len": _max_seq_len,
    "augmentation_size": _augmentation_size,
    "vocabulary_extra_tokens": _extra_tokens,
    "teacher_name": _teacher_name,
    "teacher_ensemble": _teacher_ensemble,
    "teacher_epochs": _teacher_epochs,
    "teacher_early_stopping_patience": _teacher_patience,
    "teacher_batch_size": _teacher_batch_size,
    "student_preset": _student_preset,
    **_PRESET_RULES,
    "student_lstm_dim": _if_wider(256, _PRESET_RULES["student_lstm_dim"]),
    "student_lstm_dropout": _if_wider(0.1),
    "student_ema_decay": _if_wider(0.99),
    "student_epochs": _student_epochs,
    "student_early_stopping_patience": _student_patience,
    "abstention_coverage": _abstention_coverage,
}
RESOLVED = frozenset(_RULES)  # fields that a recipe may choose
