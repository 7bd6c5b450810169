"""`saarthi threshold`: thresholds moved without training, their choice and their effect."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saarthi_lib import Predictor
from saarthi_lib.bundle import read_manifest, verify_bundle
from saarthi_lib.errors import DataError, InputError, StorageError
from saarthi_lib.evaluation.operating_point import Target, move_threshold, show_threshold
from saarthi_lib.evaluation.operating_point.effect import counts, curve
from saarthi_lib.evaluation.operating_point.judged import Judged
from saarthi_lib.evaluation.operating_point.target import threshold_for
from saarthi_lib.evaluation.tabular import evaluate_file
from tests.conftest import write_jsonl
from tests.html_page import Page
from tests.test_cli import saarthi
from tests.tiny_bundle import SENTENCES, SEQUENCE_LABELS, write_tiny_bundle

WORDS = " ".join(SENTENCES).split()
TEXTS = [" ".join(WORDS[i % 40 : i % 40 + 1 + i % 7]) for i in range(120)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    metrics = {"main": 0.5, "calibration": {"ece": 0.1, "coverage": 0.9, "threshold": 0.35}}
    folder = tmp_path_factory.mktemp("threshold") / "bot"
    return write_tiny_bundle(
        folder, threshold=0.35, metrics=metrics, trained_with={"bundle_version": "1"}
    )


@pytest.fixture(scope="module")
def labelled(bundle: Path) -> Path:
    """Rows of two languages: answers are right in nine of ten, and a few are out of scope."""
    answers = Predictor.load(bundle).predict(TEXTS)
    wrong = dict(zip(SEQUENCE_LABELS, SEQUENCE_LABELS[1:] + SEQUENCE_LABELS[:1], strict=True))
    rows = [
        {
            "text": answer.text,
            "label": wrong[str(answer.label)] if row % 9 == 0 else answer.label,
            "lang": ("english", "hindi")[row % 2],
        }
        for row, answer in enumerate(answers)
    ]
    rows += [{"text": text, "label": "none of these", "lang": "english"} for text in TEXTS[:8]]
    return write_jsonl(bundle.with_name("labelled.jsonl"), rows)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- the new bundle -------------------------------------------------------------------------------


def test_a_value_is_written_beside_the_old_bundle(bundle: Path, labelled: Path) -> None:
    before = files_of(bundle)
    moved = move_threshold(bundle, Target("value", 0.5), labelled)
    assert moved.bundle is not None and moved.bundle.parent == bundle.parent
    assert files_of(bundle) == before
    manifest = verify_bundle(moved.bundle)
    assert (manifest.threshold, manifest.version) == (0.5, "2")
    assert manifest.created >= read_manifest(bundle).created
    origin = manifest.made_by["threshold"]
    assert (origin["target"], origin["threshold"], origin["version"]) == ("value 0.5", 0.35, "1")
    assert origin["digest"] == read_manifest(bundle).digest
    # Metrics at the old threshold would be wrong, and the version is free to be numbered.
    assert manifest.metrics["calibration"] == {"ece": 0.1, "threshold": 0.5}
    assert json.loads(files_of(moved.bundle)["training_config.json"])["bundle_version"] == ""
    old, new = (Predictor.load(folder).predict(SENTENCES) for folder in (bundle, moved.bundle))
    assert [(a.label, a.confidence) for a in old] == [(a.label, a.confidence) for a in new]
    assert [answer.abstained for answer in new] == [answer.confidence < 0.5 for answer in new]
    again = move_threshold(bundle, Target("value", 0.6), labelled)
    assert again.bundle not in (None, moved.bundle)


def test_a_language_gets_its_own_threshold(bundle: Path, labelled: Path, tmp_path: Path) -> None:
    target, folder = Target("coverage", 0.6), tmp_path / "hindi"
    moved = move_threshold(bundle, target, labelled, languages=["hi"], output=folder)
    manifest = read_manifest(folder)
    assert manifest.threshold == 0.35 and [*manifest.language_thresholds] == ["hindi"]
    by_language = {row["language"]: row for row in moved.effect}
    assert by_language["hindi"]["after"]["answered"] == pytest.approx(0.6 * 60, abs=1)
    assert by_language["english"]["before"] == by_language["english"]["after"]
    assert [*moved.curves] == ["hindi"]

    both = move_threshold(
        folder, Target("value", 0.2), labelled, languages=["english"], output=tmp_path / "both"
    )
    assert both.after["language_thresholds"] == {
        "english": 0.2,
        "hindi": manifest.language_thresholds["hindi"],
    }
    # Without a language, all languages have one threshold again.
    one = move_threshold(tmp_path / "both", Target("value", 0.1), output=tmp_path / "one")
    assert one.after == {"threshold": 0.1, "language_thresholds": {}}
    assert not one.effect and one.expected_coverage is None


def test_the_effect_is_that_of_the_new_bundle(bundle: Path, labelled: Path, tmp_path: Path) -> None:
    target, folder = Target("coverage", 0.7), tmp_path / "new"
    moved = move_threshold(bundle, target, labelled, languages=["hindi"], output=folder)
    overall, *by_language = moved.effect
    for name, found in (("before", bundle), ("after", folder)):
        measured = evaluate_file(Predictor.load(found), labelled)["calibration"]
        effect = overall["before"] if name == "before" else overall["after"]
        assert effect["answered"] / overall["texts"] == pytest.approx(
            measured["coverage"], abs=1e-4
        )
        assert effect["wrong"] / effect["answered"] == pytest.approx(measured["risk"], abs=1e-4)
        parts = [row["before"] if name == "before" else row["after"] for row in by_language]
        assert sum(part["answered"] for part in parts) == effect["answered"]
    assert (overall["texts"], overall["out_of_scope"]) == (120, 8)


def test_rows_of_the_run_choose_and_measure(finished_run: Path, tmp_path: Path) -> None:
    bundle, folder = finished_run / "bundle-int8", tmp_path / "moved"
    moved = move_threshold(bundle, Target("coverage", 0.5), output=folder)
    assert (moved.chosen_on, moved.measured_on) == ("validation", "test")
    manifest = verify_bundle(folder)
    assert manifest.expected_coverage == moved.expected_coverage is not None
    measured = manifest.metrics["calibration"]
    overall = moved.effect[0]
    assert measured["threshold"] == manifest.threshold != moved.before["threshold"]
    assert measured["coverage"] == pytest.approx(
        overall["after"]["answered"] / overall["texts"], abs=1e-4
    )
    assert manifest.metrics["main"] == read_manifest(bundle).metrics["main"]
    assert manifest.trial


# --- choice ---------------------------------------------------------------------------------------

ROWS = st.lists(
    st.tuples(st.floats(0, 1), st.booleans(), st.booleans(), st.booleans()),
    min_size=1,
    max_size=60,
)


def judged(rows: Sequence[tuple[float, bool, bool, bool]]) -> Judged:
    confidence, right, within, fits = zip(*rows, strict=True)
    flags = (np.array(each, dtype=np.bool_) for each in (right, within, fits))
    return Judged("rows", ["hindi"] * len(rows), np.array(confidence, dtype=np.float64), *flags)


@given(rows=ROWS)
def test_each_point_of_the_curve_is_its_threshold(
    bundle: Path, rows: list[tuple[float, bool, bool, bool]]
) -> None:
    found, manifest = judged(rows), read_manifest(bundle)
    points = curve(found)
    assert [p["answered"] for p in points] == sorted({p["answered"] for p in points})
    for point in points:
        at = counts(found, replace_threshold(manifest, point["threshold"]))
        assert (at["answered"], at["wrong"]) == (point["answered"], point["wrong"])
        assert point["low"] <= point["risk"] <= point["high"]


def replace_threshold(manifest: Any, value: float) -> Any:
    from dataclasses import replace

    return replace(manifest, threshold=value)


@given(rows=ROWS, share=st.floats(0.01, 1))
@settings(max_examples=60)
def test_a_coverage_is_reached_as_far_as_texts_fit(
    bundle: Path, rows: list[tuple[float, bool, bool, bool]], share: float
) -> None:
    found, manifest = judged(rows), read_manifest(bundle)
    if not found.within.any():
        with pytest.raises(DataError, match="rows: no row has a label of the bundle"):
            threshold_for(Target("coverage", share), found)
        return
    chosen = threshold_for(Target("coverage", share), found)
    answered = counts(found, replace_threshold(manifest, chosen))["answered"]
    possible = int((found.within & found.fits).sum())
    assert answered >= min(possible, np.floor(share * found.within.sum()))


def test_a_risk_is_kept_or_refused_with_the_lowest_one(bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    confidence = rng.random(600)
    right = rng.random(600) < 0.5 + 0.5 * confidence
    ones = [True] * 600
    rows = judged([*zip(confidence.tolist(), right.tolist(), ones, ones, strict=True)])
    chosen = threshold_for(Target("risk", 0.2), rows)
    at = counts(rows, replace_threshold(read_manifest(bundle), chosen))
    assert 0 < at["wrong"] / at["answered"] < 0.2
    few = rows.rows(np.arange(600) < 20)
    with pytest.raises(DataError, match=r"risk 0\.05 cannot be guaranteed with 95% confidence on"):
        threshold_for(Target("risk", 0.05), few)


# --- refusals -------------------------------------------------------------------------------------


def test_what_cannot_be_moved_is_refused(bundle: Path, labelled: Path, tmp_path: Path) -> None:
    half = Target("coverage", 0.5)
    with pytest.raises(DataError, match="needs labelled rows, and the bundle is not in the folder"):
        move_threshold(bundle, half)
    with pytest.raises(DataError, match="the curve needs labelled rows"):
        show_threshold(bundle)
    with pytest.raises(InputError, match=r"'hindy': .* \(did you mean hindi\?\); there are"):
        move_threshold(bundle, half, labelled, languages=["hindy"])
    with pytest.raises(StorageError, match="exists already; choose another folder"):
        move_threshold(bundle, half, labelled, output=tmp_path)
    with pytest.raises(InputError, match="coverage must be a number above 0, and at most 1, not 0"):
        Target("coverage", 0)
    published = tmp_path / "tiny" / "1"
    shutil.copytree(bundle, published)
    with pytest.raises(StorageError, match="is a published version"):
        move_threshold(published, half, labelled)
    assert os.listdir(tmp_path / "tiny") == ["1"]


# --- the command ----------------------------------------------------------------------------------


def test_the_command_shows_curve_effect_and_bundle(
    bundle: Path, labelled: Path, tmp_path: Path
) -> None:
    folder, page = tmp_path / "new", tmp_path / "page.html"
    options = ("--language", "hindi", "--output", str(folder), "--html", str(page))
    done = saarthi("threshold", str(bundle), str(labelled), "--coverage", "0.8", *options)
    assert done.returncode == 0, done.stderr
    value = read_manifest(folder).language_thresholds["hindi"]
    assert f"threshold: 0.350 → 0.350, {value:.3f} for hindi (coverage 0.8, on labelled" in (
        done.stdout
    )
    for text in ("effect on 120 texts", "wrong answers", "out of scope, but answered", "of 8"):
        assert text in done.stdout
    made = Page(page.read_text(encoding="utf-8"))
    assert made.loads == [] and made.scripts == 0 and not made.open
    assert f"{value:.3f} for hindi" in made.text and "<svg" in page.read_text(encoding="utf-8")


def test_the_command_only_shows_without_a_target(bundle: Path, labelled: Path) -> None:
    before = sorted(os.listdir(bundle.parent))
    done = saarthi("threshold", str(bundle), str(labelled), "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["bundle"] is None and shown["before"] == shown["after"]
    assert shown["effect"][0]["texts"] == 120 and shown["curves"]["all"]
    assert sorted(os.listdir(bundle.parent)) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--risk", "0.1", "--value", "0.2"), "give only one of --risk, --value"),
        (("--language", "hindi"), "--language needs --risk, --coverage or --value"),
        (("--risk", "0.001"), "the lowest risk that they support is"),
        (("--coverage", "0.5", "--label-column", "kind"), "--label-column"),
    ],
)
def test_errors_of_the_command_name_the_option(
    bundle: Path, labelled: Path, options: tuple[str, ...], words: str
) -> None:
    done = saarthi("threshold", str(bundle), str(labelled), *options)
    assert done.returncode == 2 and words in done.stderr, done.stderr
