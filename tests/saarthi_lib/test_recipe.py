"""Recipes: fields that are not given follow from the data, each with its reason."""

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saarthi_lib.config import SECTIONS, TrainConfig
from saarthi_lib.models.encoders import FAMILIES
from saarthi_lib.recipe import (
    LONGEST,
    SIZE_FIELDS,
    STUDENT_PRESETS,
    Facts,
    describe,
    resolve,
    settled,
    with_one_teacher,
)
from saarthi_lib.settings import overridden

SMALL_BOT = Facts("intent_classification", 300, ("english",), 17, 3_000, 90_000)
MANY_INTENTS = Facts("joint", 13_000, ("english",), 40, 150_000, 500_000)
HINDI_NEWS = Facts("ner", 11_000, ("hindi",), 90, 250_000, 250_000)

facts = st.builds(
    Facts,
    st.sampled_from(["intent_classification", "text_classification", "ner", "pos", "joint"]),
    st.integers(2, 10**6),
    st.lists(st.sampled_from(["english", "hindi", "marathi"]), unique=True).map(
        lambda names: tuple(sorted(names))
    ),
    st.integers(1, LONGEST),
    st.integers(1, 10**8),
    st.integers(0, 10**8),
)
GIVEN: dict[str, Any] = {
    "max_seq_len": 20,
    "teacher_name": "muril",
    "teacher_epochs": 2,
    "teacher_ensemble": 2,
    "augmentation_size": 0,
    "student_lstm_dim": 77,
    "student_epochs": 4,
    "student_preset": "tiny",
    "abstention_coverage": 0.5,
}


def chosen(data: Facts, **fields: Any) -> TrainConfig:
    return resolve(TrainConfig.from_mapping(fields), data)


@settings(max_examples=200, deadline=None)
@given(facts, st.sampled_from(["auto", "best", "classic"]), st.sets(st.sampled_from([*GIVEN])))
def test_given_fields_win_and_others_have_reasons(
    data: Facts, recipe: str, names: set[str]
) -> None:
    fields = {name: GIVEN[name] for name in names}
    config = chosen(data, recipe=recipe, **fields)

    assert {name: getattr(config, name) for name in names} == fields
    assert names.isdisjoint(config.reasons)
    assert all(config.reasons.values())
    assert resolve(config, data) == config  # a second time changes nothing
    assert TrainConfig.from_mapping(config.model_dump()) == config.with_reasons({})  # and is valid
    if recipe != "classic" and "max_seq_len" not in names:
        assert config.max_seq_len >= min(data.needed_length, LONGEST)


@settings(max_examples=100, deadline=None)
@given(facts, st.sampled_from(["auto", "best", "classic"]), st.sets(st.sampled_from([*GIVEN])))
def test_step_gets_the_same_values_from_its_sections(
    data: Facts, recipe: str, names: set[str]
) -> None:
    config = TrainConfig.from_mapping({"recipe": recipe, **{name: GIVEN[name] for name in names}})
    whole = resolve(config, data)
    for section in SECTIONS:
        part = resolve(config.only(*dict.fromkeys(("run", section))), data)
        assert part.section(section) == whole.section(section)


def test_classic_keeps_the_original_values() -> None:
    config = chosen(HINDI_NEWS, recipe="classic")

    assert config.reasons == {}
    assert (config.student_word_emb_dim, config.student_lstm_dim) == (300, 600)
    assert (config.student_epochs, config.teacher_epochs, config.max_seq_len) == (200, 3, 26)


def test_few_english_rows_get_three_small_teachers() -> None:
    config = chosen(SMALL_BOT)

    assert (config.teacher_name, config.teacher_ensemble, config.teacher_epochs) == (
        "minilm",
        3,
        12,
    )
    assert (config.student_preset, config.student_lstm_dim) == ("small", 128)
    assert config.abstention_coverage == 0.9


def test_many_requests_without_preset_get_a_wider_student() -> None:
    assert chosen(MANY_INTENTS).student_lstm_dim == 256
    assert chosen(MANY_INTENTS, student_preset="small").student_lstm_dim == 128
    assert chosen(HINDI_NEWS).student_lstm_dim == 128


def test_much_text_gets_fewer_epochs_but_at_least_one() -> None:
    assert chosen(SMALL_BOT).student_epochs == 15
    million = Facts("ner", 10**6, ("hindi",), 90, 10**8, 10**8)
    assert chosen(million).student_epochs == 1
    # A student of the labels alone reads no transfer text.
    assert chosen(HINDI_NEWS, distillation_schedule="labels_only").student_epochs == 15


def test_delivered_teacher_is_never_an_ensemble() -> None:
    for fields in ({"torchscript": True}, {"distillation": False}):
        config = with_one_teacher(TrainConfig.from_mapping({"recipe": "best", **fields}))
        assert resolve(config, SMALL_BOT).teacher_ensemble == 1
        assert "teacher_ensemble" in config.reasons


def test_fields_without_effect_are_not_chosen() -> None:
    teacher_alone = chosen(SMALL_BOT, distillation=False).reasons
    assert [field for field in teacher_alone if field.startswith("student_")] == []
    existing = chosen(SMALL_BOT, teacher_exists=True).reasons
    assert existing.keys().isdisjoint({"teacher_epochs", "teacher_batch_size", "teacher_ensemble"})
    narrow = chosen(MANY_INTENTS, student_lstm_dim=64).reasons
    assert narrow.keys().isdisjoint({"student_lstm_dropout", "student_ema_decay"})


def test_reason_names_the_limit_of_teachers() -> None:
    long = Facts("ner", 300, ("hindi",), needed_length=600)
    config = chosen(long)
    assert config.max_seq_len == LONGEST
    assert "the most that teachers read" in config.reasons["max_seq_len"]


def test_description_names_field_value_and_reason() -> None:
    lines = describe(chosen(SMALL_BOT), list(TrainConfig.model_fields))
    assert "teacher_name: minilm (all texts are English)" in lines


def test_given_default_differs_from_a_recipe_field() -> None:
    left, classic = TrainConfig(), TrainConfig(max_seq_len=26)
    assert left.max_seq_len == classic.max_seq_len
    assert settled(left, "run") != settled(classic, "run")


# --- presets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["auto", "classic"])
def test_preset_gives_sizes_and_training(recipe: str) -> None:
    small = chosen(SMALL_BOT, recipe=recipe, student_preset="small", student_lstm_dim=50)
    assert (small.student_word_emb_dim, small.student_lstm_dim) == (100, 50)
    assert (small.student_learning_rate, small.logit_loss) == (3e-3, "kl")
    base = resolve(
        TrainConfig.from_mapping(overridden(small.model_dump(), {"student_preset": "base"})),
        SMALL_BOT,
    )
    assert (base.student_word_emb_dim, base.student_lstm_dim, base.logit_loss) == (300, 600, "mse")


def test_every_preset_has_the_sizes_of_every_family() -> None:
    fields = TrainConfig.model_fields
    families = get_args(fields["student_family"].annotation)
    [presets, _] = get_args(fields["student_preset"].annotation)
    assert families == FAMILIES
    assert set(STUDENT_PRESETS) == set(get_args(presets))
    for preset, sizes in STUDENT_PRESETS.items():
        assert set(sizes) == set(families)
        for family in families:
            made = chosen(SMALL_BOT, student_preset=preset, student_family=family)
            assert sizes[family] == tuple(getattr(made, field) for field in SIZE_FIELDS)
