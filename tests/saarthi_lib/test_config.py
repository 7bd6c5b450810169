from pathlib import Path
from typing import Any

import pytest
import yaml

from saarthi_lib.config import (
    SECTIONS,
    TrainConfig,
    require,
)
from saarthi_lib.errors import ConfigError
from saarthi_lib.settings import overridden, read_over, read_settings, read_yaml

# The fields that users' configurations have, with the defaults that they count on.
DEFAULTS: dict[str, Any] = {
    "max_seq_len": 26,
    "precision": "16-mixed",
    "teacher_epochs": 3,
    "teacher_batch_size": 16,
    "teacher_dropout": 0.1,
    "teacher_clip_grad_norm": None,
    "teacher_early_stopping_patience": 2,
    "enable_teacher_checkpointing": True,
    "teacher_output_folder": "teacher",
    "torchscript": False,
    "teacher_exists": False,
    "distillation": True,
    "teacher_layer_to_distil": 6,
    "student_lstm_dim": 600,
    "student_lstm_layers": 1,
    "student_lstm_dropout": 0.3,
    "student_word_emb_dim": 300,
    "student_epochs": 200,
    "student_batch_size": 512,
    "student_output_folder": "student",
    "fast_dev_run": False,
    "production": False,
}
CHOICES: dict[str, list[Any]] = {
    "input_path": ["data/commands"],
    "root_output_path": ["runs/commands"],
    "task": ["intent_classification", "text_classification", "ner", "pos", "joint"],
    "teacher_name": ["xlm-roberta", "bert", "muril", "some-owner/some-model", "./folder"],
    "quantization": ["int8", "float16", None],
    "precision": ["64", "32", "16", "16-mixed", "bf16-mixed"],
    "teacher_clip_grad_norm": [1.0, None],
}


@pytest.mark.parametrize(("field", "default"), DEFAULTS.items())
def test_every_known_field_has_its_default(field: str, default: Any) -> None:
    assert getattr(TrainConfig(), field) == default
    assert getattr(TrainConfig.from_mapping({field: default}), field) == default


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in CHOICES.items() for v in vs])
def test_every_known_choice_is_accepted(field: str, value: Any) -> None:
    assert getattr(TrainConfig.from_mapping({field: value}), field) == value


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_precision_may_be_a_number(bits: int) -> None:
    assert TrainConfig.from_mapping({"precision": bits}).precision == str(bits)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("teacher_epoch", "teacher_epochs"),
        ("student_lstm_dims", "student_lstm_dim"),
        ("max_seq_length", "max_seq_len"),
        ("quantisation", "quantization"),
        ("label", "label_column"),
        ("tags", "tags_column"),
    ],
)
def test_unknown_field_suggests_the_nearest(wrong: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown field '{wrong}': did you mean '{meant}'"):
        TrainConfig.from_mapping({wrong: 3})


def test_field_without_a_similar_one_points_to_the_list() -> None:
    with pytest.raises(ConfigError, match="unknown field 'zzz': 'saarthi fields' lists all"):
        TrainConfig.from_mapping({"zzz": 3})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("teacher_epochs", "three"),
        ("teacher_epochs", 2.5),
        ("teacher_epochs", 0),
        ("max_seq_len", -1),
        ("student_lstm_dropout", 1.0),
        ("teacher_clip_grad_norm", "none"),
        ("task", "translation"),
        ("precision", "8"),
        ("precision", True),
        ("teacher_epochs", True),
        ("student_learning_rate", False),
        ("few_shot", True),
        ("teacher_layer_to_distil", True),
        ("quantization", "int4"),
        ("distillation", "perhaps"),
        ("input_path", 5.5),
        ("bundle_name", "Not a name"),
    ],
)
def test_wrong_value_is_named_with_its_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^mine: {field}: ") as caught:
        TrainConfig.from_mapping({field: value}, source="mine")

    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("given", ["hindi, english", " hindi,english ", ["hindi", "english"]])
def test_languages_may_be_one_text(given: str | list[str]) -> None:
    assert TrainConfig.from_mapping({"languages": given}).languages == ["hindi", "english"]
    assert TrainConfig.from_mapping({"languages": "hindi"}).languages == ["hindi"]


def test_lists_of_choices_may_be_one_text() -> None:
    config = TrainConfig.from_mapping({"loggers": "csv; mlflow", "augmentation_methods": "typos"})
    assert (config.loggers, config.augmentation_methods) == (["csv", "mlflow"], ["typos"])


def test_undetectable_languages_and_codes_are_accepted() -> None:
    names = ["Hindi", "hi-IN", "hin_Deva", "pl", "polish", "swahili", "hinglish"]
    assert TrainConfig.from_mapping({"languages": names}).languages == names


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("hindii", "'hindii' is not a known language; did you mean hindi"),
        (["english", "Marathy"], "'Marathy' is not a known language; did you mean marathi"),
        (["klingon"], "'klingon' is not a known language"),
        ("!", "'!' is not a known language; give its English name"),
    ],
)
def test_unknown_languages_suggest_the_nearest(given: str | list[str], hint: str) -> None:
    with pytest.raises(ConfigError, match=f"languages: .*{hint}"):
        TrainConfig.from_mapping({"languages": given})


def test_whole_numbers_become_text_in_text_fields() -> None:
    fields = {"label_column": 2, "bundle_version": 10, "teacher_output_folder": 7}
    config = TrainConfig.from_mapping(fields)
    assert (config.label_column, config.bundle_version) == ("2", "10")
    assert config.teacher_output_folder == "7"


@pytest.mark.parametrize(
    ("line", "read", "quoted"),
    [
        ("language: no", "False", 'language: "no"'),
        ("languages: no", "False", 'languages: "no"'),
        ("text_column: on", "True", 'text_column: "yes"'),
        ("bundle_version: 1.5", "1.5", 'bundle_version: "1.5"'),
        ("bundle_version: 2024-01-31", "date", 'bundle_version: "2024-01-31"'),
    ],
)
def test_values_that_yaml_misreads_must_be_quoted(line: str, read: str, quoted: str) -> None:
    with pytest.raises(ConfigError, match=f"YAML reads the value as .*{read}") as caught:
        TrainConfig.from_mapping(yaml.safe_load(line))
    assert f"quote it, such as {quoted}" in str(caught.value)


# Texts that YAML 1.1 reads as other types. 010 is 8 there, and 1:30 is 90.
WRITTEN = ["2", "010", "1.10", "1e3", "1:30", "0x1F", "1_000", ".5", ".inf", "no", "Yes", "on"]
WRITTEN += ["off", "true", "2024-01-31", "2024-01-31 10:00:00", "-3", "+1"]


@pytest.mark.parametrize("text", WRITTEN)
def test_texts_in_yaml_and_options_stay_as_written(tmp_path: Path, text: str) -> None:
    texts = [name for name, each in TrainConfig.model_fields.items() if each.annotation is str]
    free = sorted({*texts} - {"device", "bundle_name"})  # these have a form of their own
    path = tmp_path / "config.yaml"
    path.write_text("".join(f"{name}: {text}\n" for name in free), encoding="utf-8")
    read, given = read_yaml(path), read_settings([f"{name}={text}" for name in free])
    over = read_over([f"{name}={text},{text}" for name in free])
    assert read == given == dict.fromkeys(free, text)
    assert over == {name: [text, text] for name in free}
    folders = [name for name in free if name.endswith("_output_folder")]
    fields = {name: value for name, value in read.items() if name not in folders}
    assert TrainConfig.from_mapping(fields).text_column == text


def test_other_fields_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "teacher_epochs: 5\nfast_dev_run: yes\nquantization: null\nprecision: 16\n"
        "languages: [no, hi]\nlanguage: 'no'\nlabel_column:\ntext_column: ~\n"
        "teacher_layer_to_distil: [3, 6]\nover: {bundle_version: [1.10, 1.2], seed: [1, 2]}\n",
        encoding="utf-8",
    )
    fields = read_yaml(path)
    assert fields.pop("over") == {"bundle_version": ["1.10", "1.2"], "seed": [1, 2]}
    config = TrainConfig.from_mapping(fields)
    assert (config.teacher_epochs, config.fast_dev_run, config.quantization) == (5, True, None)
    assert (config.languages, config.language, config.precision) == (["no", "hi"], "no", "16")
    assert (config.label_column, config.text_column) == ("", "")
    assert config.teacher_layer_to_distil == [3, 6]


def test_field_that_is_given_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("language: hindi\ntask: ner\nlanguage: tamil\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"(?s)the field 'language' is given twice.*line 3"):
        read_yaml(path)
    path.write_text("a: &shared {seed: 1}\nb: {<<: *shared, seed: 2}\n", encoding="utf-8")
    assert read_yaml(path)["b"] == {"seed": 2}


@pytest.mark.parametrize(("text", "number"), [("010", 8), ("1:30", 90), ("-1:30.5", -90.5)])
def test_numbers_that_yaml_reads_otherwise(tmp_path: Path, text: str, number: float) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"seed: {text}\n", encoding="utf-8")
    for read in (lambda: read_yaml(path), lambda: read_settings([f"seed={text}"])):
        with pytest.raises(ConfigError, match=f"seed: YAML reads {text} as {number}; write"):
            read()


def test_texts_in_parameters_of_pipelines_stay_as_written() -> None:
    pairs = ["publish_to=2026", "predictor=no", "namespace=010", "canary_percent=5", "explain=no"]
    pairs.append("student_configs=[{student_output_folder: 010, student_epochs: 2}]")
    read = read_settings([*pairs, "data_config={label_column: 1.10}"], "--parameter")
    assert read == {
        **{"publish_to": "2026", "predictor": "no", "namespace": "010", "canary_percent": 5},
        **{"explain": False, "data_config": {"label_column": "1.10"}},
        "student_configs": [{"student_output_folder": "010", "student_epochs": 2}],
    }


@pytest.mark.parametrize("text", ["a: b", "@name", "[a", "*x", "50% off", "a # b"])
def test_option_of_a_text_field_need_not_be_yaml(text: str) -> None:
    given = read_settings([f"text_column={text}", f"label_column='{text}'"])
    assert given["label_column"] == text
    assert given["text_column"] == text.partition(" #")[0]
    with pytest.raises(ConfigError, match="not YAML"):
        read_settings(["teacher_epochs=[a"])


@pytest.mark.parametrize(
    ("field", "wrong", "meant"),
    [
        ("task", "intents", "intent_classification"),
        ("task", "Intent", "intent_classification"),
        ("task", "text", "text_classification"),
        ("task", "entities", "ner"),
        ("task", "slot-filling", "joint"),
        ("task", "part of speech", "pos"),
        ("task", "Intent-Classification", "intent_classification"),
        ("task", "intent-detection", "intent_classification"),
        ("task", "text-classification", "text_classification"),
        ("task", "sentiment-analysis", "text_classification"),
        ("task", "classification", "intent_classification or text_classification"),
        ("task", "NER", "ner"),
        ("task", "entity-extraction", "ner"),
        ("task", "named-entity-recognition", "ner"),
        ("task", "pos-tagging", "pos"),
        ("task", "token-classification", r"ner \(entities\) or pos \(parts of speech\)"),
        ("task", "sequence labelling", r"ner \(entities\) or pos \(parts of speech\)"),
        ("task", "intents+entities", "joint"),
        ("task", "joint-intent-slot", "joint"),
        ("task", "intent_clasification", "intent_classification"),
        ("normalization", "romanised text", "romanized"),
        ("quantization", "int9", "int8"),
        ("loggers", ["tensorbord"], "tensorboard"),
    ],
)
def test_wrong_choice_suggests_the_nearest(field: str, wrong: Any, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"did you mean {meant}\?"):
        TrainConfig.from_mapping({field: wrong})


def test_all_wrong_fields_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_mapping({"taks": "ner", "teacher_epochs": 0, "max_seq_len": "long"})

    assert all(name in str(caught.value) for name in ("taks", "teacher_epochs", "max_seq_len"))


def test_teacher_and_student_must_not_share_a_folder() -> None:
    with pytest.raises(ConfigError, match="teacher_output_folder and student_output_folder"):
        TrainConfig.from_mapping({"teacher_output_folder": "student"})


@pytest.mark.parametrize(
    "fields", [{"reweighting": "last_layer"}, {"self_adaptive_training": True}]
)
def test_doubtful_labels_need_a_phase_with_labels_alone(fields: dict[str, Any]) -> None:
    TrainConfig.from_mapping(fields)
    with pytest.raises(ConfigError, match="distillation_schedule: joint does not have"):
        TrainConfig.from_mapping(fields | {"distillation_schedule": "joint"})


def test_yaml_out_and_in_is_the_same(tmp_path: Path) -> None:
    config = TrainConfig.from_mapping(
        {"task": "ner", "precision": 32, "quantization": None, "input_path": "आँकड़े/ner"}
    )
    config.to_yaml(tmp_path / "config.yaml")

    assert TrainConfig.from_yaml(tmp_path / "config.yaml") == config
    assert "आँकड़े" in (tmp_path / "config.yaml").read_text(encoding="utf-8")


def test_users_yaml_is_read_and_overridden(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("task: ner\nprecision: 16-mixed\nquantization: null\nteacher_epochs: 5\n")
    config = TrainConfig.from_yaml(path, {"teacher_epochs": 7})

    assert (config.task, config.quantization, config.teacher_epochs) == ("ner", None, 7)


@pytest.mark.parametrize("content", [None, "- a\n- b\n", "", "task: [", b"task: \xff"])
def test_file_without_a_yaml_mapping_is_named(tmp_path: Path, content: str | bytes | None) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_yaml(path)


def test_sections_hold_every_field_once() -> None:
    fields = [field for section in SECTIONS.values() for field in section.model_fields]

    assert sorted(fields) == sorted(TrainConfig.model_fields)
    assert len(set(fields)) == len(fields)


def test_only_its_own_fields_change_a_section() -> None:
    before, after = TrainConfig(), TrainConfig(student_lstm_dim=50)

    changed = {name for name in SECTIONS if before.section(name) != after.section(name)}
    assert changed == {"student"}
    assert yaml.safe_load(yaml.safe_dump(after.section(*SECTIONS))) == after.model_dump()


def test_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match="input_path is missing"):
        require(TrainConfig(root_output_path="runs"), "root_output_path", "input_path")


def test_bundle_name_defaults_to_the_task() -> None:
    assert TrainConfig(task="intent_classification").name == "intent-classification"
    assert TrainConfig(bundle_name="home").name == "home"


@pytest.mark.parametrize("field", ["student_preset", "student_family"])
def test_preset_or_family_of_wrong_type_is_named(field: str) -> None:
    given = {"student_preset": "small", field: ["tiny"]}
    with pytest.raises(ConfigError, match=f"{field}: Input should be"):
        TrainConfig.from_mapping(given)


def test_overriding_preset_resets_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("student_lstm_dim: 50\nstudent_word_emb_dim: 20\n", encoding="utf-8")

    config = TrainConfig.from_yaml(path, {"student_preset": "small", "student_word_emb_dim": 30})
    assert config.given("student") == {"student_preset": "small", "student_word_emb_dim": 30}
    unchanged = TrainConfig.from_yaml(path, {"student_family": "gru"})
    assert unchanged.student_lstm_dim == 50


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ({"normalisation": "romanised"}, {"normalization": "romanized"}),
        ({"max_quantisation_loss": 0.5}, {"max_quantization_loss": 0.5}),
        ({"vocabulary_extra_pieces": 7}, {"vocabulary_extra_tokens": 7}),
        ({"representation_loss": "normalised_mse"}, {"representation_loss": "normalized_mse"}),
    ],
)
def test_earlier_names_work_with_a_warning(
    old: dict[str, Any], now: dict[str, Any], told: pytest.LogCaptureFixture
) -> None:
    config = TrainConfig.from_mapping(old, "my.yaml")
    assert config.given(*SECTIONS) == now
    assert "my.yaml" in told.text and str(*now) in told.text


def test_override_wins_over_an_earlier_name() -> None:
    fields = overridden({"normalisation": "none"}, {"normalization": "standard"})
    assert TrainConfig.from_mapping(fields).normalization == "standard"


def test_removed_exported_program_names_the_alternative() -> None:
    off = TrainConfig.from_mapping({"exported_program": False})
    assert off == TrainConfig()
    with pytest.raises(ConfigError, match=r"exported_program was removed.*runtime: onnxruntime"):
        TrainConfig.from_mapping({"exported_program": True})
