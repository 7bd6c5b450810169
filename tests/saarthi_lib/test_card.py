"""The model card of a bundle, printed by the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from saarthi_lib.bundle import read_manifest, write_bundle
from saarthi_lib.tasks import Labels
from tests.test_cli import saarthi
from tests.tiny_bundle import SEQUENCE_LABELS, write_tiny_bundle

OLD_BUNDLE = Path(__file__).parents[1] / "old_run" / "bundle-int8"
SCORES = {"main": 0.9, "accuracy": 0.9, "macro_f1": 0.8, "examples": 1200}
METRICS = {
    **SCORES,
    "by_language": {"english": {**SCORES, "accuracy": 0.95, "examples": 1000}},
    "unseen": {**SCORES, "accuracy": 0.85, "examples": 700},
    "calibration": {"coverage": 0.931, "risk": 0.042},
    "latency_ms": {"p50": 0.07, "p99": 0.21},
    "parameters": 937_078,
}
MADE_BY = {
    "versions": {"saarthi": "0.1.0", "torch": "2.13.0+cpu"},
    "source_revision": "0adfb90545d3",
    "data_digest": "1cb0",
    "recipe": {"max_seq_len": "31 tokens cover the texts"},
}


def card(bundle: Path) -> str:
    """Output of `saarthi bundle card`."""
    done = saarthi("bundle", "card", str(bundle))
    assert done.returncode == 0, done.stderr
    return done.stdout


def changed(bundle: Path, folder: Path, labels: Labels, **fields: Any) -> Path:
    """Write a bundle with other labels and other fields of the manifest."""
    source = shutil.copytree(bundle, folder.with_name(f"{folder.name}-changed"))
    labels.save(source / "labels.json")
    manifest = replace(read_manifest(bundle), **fields)
    write_bundle(folder, files={n: source / n for n in manifest.files}, manifest=manifest)
    return folder


def test_card_describes_use_training_metrics_and_limits(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(
        tmp_path / "bot",
        metrics=METRICS,
        made_by=MADE_BY,
        precision="int8",
        threshold=0.25,
        expected_coverage=(0.91, 0.97),
    )
    shown = card(bundle)
    assert shown.startswith("# tiny\n")
    for text in (
        "intent of a request to an assistant or bot. Languages: english, hindi.",
        "Labels (4): `alarm`, `lights`, `music`, `weather`",
        "torch 2.13.0+cpu",
        "Source revision: 0adfb90545d3",
        "Data digest: 1cb0",
        "Recipe: auto; fields chosen by the data: 1",
        "|  | accuracy | macro F1 | examples |",
        "| all | 0.900 | 0.800 | 1,200 |",
        "| english | 0.950 | 0.800 | 1,000 |",
        "| not in train | 0.850 | 0.800 | 700 |",
        "abstains if its confidence is below 0.250. On test it answers 93.1% of the texts",
        "4.2% of these answers are wrong",
        "91% to 97%",
        "937,078 parameters; int8 weights",
        "0.07 ms (p50)",
        "cut after 26 subword tokens",
        'Predictor.load("bot")',
    ):
        assert text in shown
    assert "Trial run" not in shown


@pytest.mark.parametrize("task", ["ner", "pos", "joint"])
def test_card_lists_the_labels_of_every_task(tmp_path: Path, task: str) -> None:
    shown = card(write_tiny_bundle(tmp_path / "bundle", task, trial=True))
    assert "**Trial run.**" in shown
    assert ("Labels (4): `alarm`" in shown) == (task == "joint")
    assert ("Tags (4): `NOUN`" if task == "pos" else "Entity types (2): `area`, `person`") in shown


def test_card_of_an_earlier_version_has_its_metrics() -> None:
    shown = card(OLD_BUNDLE)
    metrics = json.loads((OLD_BUNDLE / "bundle.json").read_text(encoding="utf-8"))["metrics"]
    assert f"| {metrics['frame_accuracy']:.3f} | 148 |" in shown
    assert "Normalization: romanized" in shown


def test_card_of_a_bundle_without_metrics_is_printed(tmp_path: Path) -> None:
    metrics = {"by_language": 3, "latency_ms": [], "parameters": "many", "calibration": None}
    shown = card(write_tiny_bundle(tmp_path / "a", metrics=metrics, made_by={"recipe": 1}))
    assert "The bundle has no metrics." in shown
    assert "No threshold: the model answers every text." in shown


def test_card_shows_twenty_labels_and_their_count(tmp_path: Path) -> None:
    labels = Labels(sequence=tuple(f"label {number}" for number in range(31)))
    shown = card(changed(write_tiny_bundle(tmp_path / "a"), tmp_path / "b", labels))
    assert "Labels (31): `label 0`" in shown
    assert "`label 19`, …" in shown and "label 20" not in shown


def test_hostile_names_cannot_add_markup(tmp_path: Path) -> None:
    hostile = (
        "<script>alert(1)</script>",
        "a\n\n# Heading",
        "`` ` ``",
        "[x](https://example.org)",
        "| a | b |",
        "\u202egnp.exe",
    )
    by_language = dict.fromkeys((*hostile, "www.example.org"), SCORES)
    bundle = changed(
        write_tiny_bundle(tmp_path / "a"),
        tmp_path / "b",
        Labels(sequence=(*hostile, *SEQUENCE_LABELS)),
        version="<img src=x>",
        languages=("*hindi*", "www.example.org"),
        metrics={**METRICS, "by_language": by_language},
        made_by={"source_revision": "](javascript:x)", "versions": {hostile[0]: hostile[1]}},
    )
    html = MarkdownIt("commonmark").enable("table").render(card(bundle))
    for markup in ("<script", "<img", "<a ", "<em>", "\u202e"):
        assert markup not in html
    assert html.count("<h1") == 1 and html.count("<h2") == 6
    assert html.count("<tr>") == 3 + len(by_language)


def test_changed_bundle_gets_no_card(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    (bundle / "labels.json").write_text("{}", encoding="utf-8")
    done = saarthi("bundle", "card", str(bundle))
    assert done.returncode == 2 and done.stdout == ""
    assert "labels.json" in done.stderr
