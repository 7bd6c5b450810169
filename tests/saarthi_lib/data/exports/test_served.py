"""Each export, from its file to the answers of the bundle that a trial run makes."""

import json
from pathlib import Path

import pytest

from saarthi_lib import Predictor, train
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect import with_task
from tests.conftest import fast_config
from tests.predictors.serving import serving
from tests.saarthi_lib.data.exports.writers import (
    LABELS,
    SPANS,
    TAGS,
    Row,
    Writer,
    base_rows,
    germeval,
    lex,
    lex_v1,
    ner_annotator,
)

ENTITIES: dict[str, Writer] = {"germeval": germeval, "ner_annotator": ner_annotator}
ALL: dict[str, Writer] = {**SPANS, **TAGS, **LABELS, **ENTITIES, "lex": lex, "lex_v1": lex_v1}


def more_rows() -> list[Row]:
    """Enough rows to cut a test and a validation split."""
    rows = base_rows()
    for number in range(3):
        for row in base_rows():
            rows.append({**row, "text": f"{row['text']} {'now ' * number}please"})
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_export_is_trained_and_served(tmp_path: Path, name: str) -> None:
    source = tmp_path / "export"
    ALL[name](source, more_rows())
    fields = fast_config(source, tmp_path / "run")
    del fields["task"]
    config = with_task(TrainConfig.from_mapping({**fields, "augmentation_size": 0}))

    train(config.model_dump(exclude_unset=True))

    with serving(tmp_path / "run" / "bundle") as server:
        response = server.post("/predict", {"text": "fly to Rome today", "lang": "english"})
        (predictor,) = server.predictors.values()
    labels = predictor.labels
    expected = "ner" if name in ENTITIES else "joint"
    assert config.task == ("intent_classification" if name in LABELS else expected)
    assert response.status_code == 200, response.text
    assert set(labels.answers) == (set() if name in ENTITIES else {"book", "greet"})
    assert labels.token == (() if name in LABELS else ("O", "B-city", "I-city"))


@pytest.mark.slow
def test_synonyms_are_in_transfer_text_and_bundle(tmp_path: Path) -> None:
    source = tmp_path / "bot"
    SPANS["rasa"](source, more_rows())
    with (source / "data/nlu.yml").open("a", encoding="utf-8") as file:
        file.write("- synonym: Rome\n  examples: |\n    - Roma\n    - eternal city\n")
    fields = {**fast_config(source, tmp_path / "run"), "task": "joint", "augmentation_size": 0}

    train(fields)

    expected = {"Roma": "Rome", "eternal city": "Rome"}
    for bundle in ("bundle", "bundle-int8"):
        path = tmp_path / "run" / bundle / "synonyms.json"
        assert json.loads(path.read_text(encoding="utf-8")) == expected
    summary = json.loads((tmp_path / "run/data/data.json").read_text(encoding="utf-8"))
    assert summary["transfer"]["synonyms"] > 0
    assert "Rasa stories" in summary["not_carried_over"]
    Predictor.load(tmp_path / "run" / "bundle")  # verified, with the file
