"""Finished runs: explanations of their answers, and comparisons between them."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from saarthi_lib import Predictor, train
from saarthi_lib.cli import app
from saarthi_lib.errors import ArtifactError, ConfigError, InputError
from saarthi_lib.storage import read_json, write_json
from tests.html_page import Page


@pytest.fixture(scope="module")
def explained(finished_run: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(finished_run / "work/explanations/explanations.json")
    return content


def test_errors_are_explained_by_teacher_and_student(explained):
    assert 1 <= len(explained["rows"]) <= 3 + 1
    for row in explained["rows"]:
        assert list(row["models"]) == ["student", "teacher"]
        for answers in row["models"].values():
            assert answers[0]["about"] is None  # the label, and then spans
            for answer in answers:
                for scores in answer["scores"].values():
                    assert len(scores) == len(row["words"])
                whole = sum(answer["scores"]["integrated_gradients"])
                assert whole == pytest.approx(
                    answer["total"], abs=0.05 + 0.2 * abs(answer["total"])
                )
    assert any(len(answers) > 1 for row in explained["rows"] for answers in row["models"].values())


def test_faithfulness_is_the_gain_over_random_order(explained):
    figures = {name: value["mean"] for name, value in explained["figures"].items()}
    for model in ("student", "teacher"):
        for method in ("integrated_gradients", "leave_one_out"):
            gain = figures[f"deletion_{model}_random"] - figures[f"deletion_{model}_{method}"]
            assert figures[f"faithfulness_{model}_{method}"] == pytest.approx(gain, abs=1e-6)
    assert 0 <= figures["agreement_answers"] <= 1


def test_page_is_self_contained_and_has_every_text(explained, finished_run: Path):
    page = Page((finished_run / "explanations.html").read_text(encoding="utf-8"))
    assert page.loads == [] and page.scripts == 0 and not page.open
    for row in explained["rows"]:
        assert row["text"] in page.text
    assert "faithfulness student integrated gradients" in page.text


def saarthi(*arguments: str | Path) -> Result:
    try:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])
    finally:
        # The command sent the log to a stream of the runner, which is closed now.
        logging.getLogger("saarthi").handlers.clear()


def answered(*arguments: str | Path) -> str:
    result = saarthi(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


TEXT = "रसोई की बत्ती जला दो"


def test_text_is_explained_in_terminal_and_page(finished_run: Path, tmp_path: Path):
    page = tmp_path / "why.html"
    shown = answered("explain", finished_run, TEXT, "--html", page)
    assert TEXT in shown and "integrated gradients" in shown and "leave one out" in shown
    assert TEXT in Page(page.read_text(encoding="utf-8")).text


def test_text_is_explained_as_json(finished_run: Path):
    found = json.loads(answered("explain", finished_run, TEXT, "--model", "teacher", "--json"))
    assert found["words"] == TEXT.split()
    for answer in found["models"]["teacher"]:
        for scores in answer["scores"].values():
            assert len(scores) == 5 and any(scores)


def test_explanation_and_answer_have_one_probability(finished_run: Path, explained):
    predictor = Predictor.load(finished_run / "bundle-int8")
    [answer] = predictor.predict([TEXT])
    found = json.loads(answered("explain", finished_run, TEXT, "--json"))
    label = found["models"]["student"][0]
    assert (label["answer"], label["probability"]) == (answer.label, answer.probability)
    texts = [row["text"] for row in explained["rows"]]
    for row, answer in zip(explained["rows"], predictor.predict(texts), strict=True):
        probability = row["models"]["student"][0]["probability"]
        assert probability == pytest.approx(answer.probability, abs=1e-5)


def test_errors_are_explained_as_page_and_json(finished_run: Path, tmp_path: Path):
    page = tmp_path / "errors.html"
    arguments = ("--errors", "--most", "2", "--html", page, "--method", "leave_one_out")
    shown = answered("explain", finished_run, *arguments)
    assert "faithfulness student leave one out" in shown
    content = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    test = pd.read_parquet(finished_run / "predictions.parquet")
    wrong = set(test["text"][~test["final_right"]])
    assert 1 <= len(content["rows"]) <= 2
    assert {row["text"] for row in content["rows"]} <= wrong
    assert all(
        list(a["scores"]) == ["leave_one_out"] for a in content["rows"][0]["models"]["student"]
    )


def test_answers_of_a_run_have_confidence_and_reason(finished_run: Path):
    rows = pd.read_parquet(finished_run / "predictions.parquet")
    for model, name in (("final", "bundle"), ("quantized", "bundle-int8")):
        threshold = read_json(finished_run / name / "bundle.json")["threshold"]
        assert (rows[f"{model}_threshold"] == threshold).all()
        below = rows[f"{model}_confidence"] < threshold
        reasons = rows[f"{model}_reason"]
        assert (rows[f"{model}_abstained"] == below).all() and (reasons.notna() == below).all()
        assert set(reasons[below]) <= {"low_probability", "unfamiliar_text"}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ([], InputError, "either a text or --errors"),
        (["hello", "--model", "teecher"], InputError, "must be student or teacher"),
        (["hello", "--method", "lime"], InputError, "must be one of integrated_gradients"),
        (["\u200b"], InputError, "is empty"),
    ],
)
def test_invalid_explanation_requests_are_errors(finished_run, arguments, error, words):
    failed = saarthi("explain", finished_run, *arguments).exception
    assert isinstance(failed, error) and words in str(failed)


CAUSES = ("confused", "words", "language", "other")  # whose rows are wrong answers


def test_errors_are_listed_in_terminal_json_and_report(finished_run: Path):
    found = json.loads(answered("errors", finished_run, "--json"))
    test = pd.read_parquet(finished_run / "predictions.parquet")
    wrong = set(test["text"][~test["quantized_right"]])
    assert (found["texts"], found["wrong"]) == (len(test), (~test["quantized_right"]).sum())
    rows = [row for fix in found["fixes"] if fix["kind"] in CAUSES for row in fix["rows"]]
    assert {row["text"] for row in rows} == wrong and found["skipped"] == ""
    source = Path(read_json(finished_run / "run.json")["config"]["input_path"])
    for row in rows:
        line = (source / row["file"]).read_text(encoding="utf-8").splitlines()[row["row"] - 1]
        assert row["text"] in line
    shown = answered("errors", finished_run)
    assert f"{found['wrong']} of {found['texts']} texts have a wrong answer" in shown
    assert found["fixes"][0]["title"] in shown and found["fixes"][0]["action"] in shown
    assert "trial run" in shown
    details = read_json(finished_run / "work" / "evaluation" / "details.json")
    assert details["errors"] == found


def test_errors_of_runs_without_data_or_answers(finished_run: Path, tmp_path: Path):
    production = tmp_path / "production"
    shutil.copytree(finished_run, production, ignore=shutil.ignore_patterns("data", "work"))
    found = json.loads(answered("errors", production, "--json"))
    assert found["wrong"] and "keeps no data" in found["skipped"]
    assert {row["row"] for fix in found["fixes"] for row in fix["rows"]} == {None}
    (production / "predictions.parquet").unlink()
    failed = saarthi("errors", production).exception
    assert isinstance(failed, ConfigError) and "keeps no predictions.parquet" in str(failed)


def test_errors_need_a_finished_run(finished_run: Path, tmp_path: Path):
    failed = saarthi("errors", finished_run / "bundle").exception
    assert isinstance(failed, ConfigError) and "but a bundle; give the run's" in str(failed)
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    for name in ("bundle", "bundle-int8"):
        shutil.rmtree(run / name)
    failed = saarthi("explain", run, "hello").exception
    assert isinstance(failed, ConfigError) and "keeps no bundle" in str(failed)
    (run / "metrics.json").unlink()
    for command in (("errors", run), ("compare", run, finished_run)):
        failed = saarthi(*command).exception
        assert isinstance(failed, ConfigError) and "has no metrics.json" in str(failed)


def test_damaged_answers_of_a_run_are_named(finished_run: Path, tmp_path: Path):
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    file = run / "predictions.parquet"
    rows = pd.read_parquet(file)
    texts = pa.array([text.encode() + b"\xff" for text in rows["text"]]).view(pa.string())
    table = pa.Table.from_pandas(rows.drop(columns="text")).append_column("text", texts)
    for damage in (lambda: pq.write_table(table, file), lambda: file.write_bytes(b"")):
        damage()
        failed = saarthi("errors", run).exception
        assert isinstance(failed, ArtifactError) and str(failed).count("cannot be read") == 1


@pytest.fixture(scope="module")
def second_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with a student that learns faster."""
    root = tmp_path_factory.mktemp("second") / "faster"
    shutil.copytree(finished_run, root)
    before = read_json(root / "run.json")["config"]
    changes = {"root_output_path": str(root), "student_learning_rate": 2e-2, "explained_errors": 0}
    return train({**before, **changes})


def test_compare_shows_settings_metrics_and_flips(
    finished_run: Path, second_run: Path, tmp_path: Path
):
    compared = json.loads(answered("compare", finished_run, second_run, "--json"))
    changed = {row["name"]: row["values"] for row in compared["settings"]}
    changed.pop("code", None)  # the revision differs after an edit during the tests
    assert changed == {"student_learning_rate": [3e-3, 2e-2], "explained_errors": [3, 0]}
    figures = {row["name"]: row["values"] for row in compared["figures"]}
    assert figures["teacher main"][0] == figures["teacher main"][1]
    mains = [
        read_json(run / "metrics.json")["quantized"]["main"] for run in (finished_run, second_run)
    ]
    assert figures["quantized main"] == mains
    [flips] = compared["flips"]
    before, after = (
        pd.read_parquet(run / "predictions.parquet") for run in (finished_run, second_run)
    )
    was, now = before["quantized_right"], after["quantized_right"]
    assert flips["common"] == len(before)
    assert (flips["won"], flips["lost"]) == ((~was & now).sum(), (was & ~now).sum())
    assert flips["changed"] == len(flips["rows"]) >= flips["won"] + flips["lost"]
    assert flips["won"] / len(before) - flips["lost"] / len(before) == pytest.approx(
        mains[1] - mains[0]
    )

    page = tmp_path / "runs.html"
    shown = answered("compare", finished_run, second_run, "--html", page)
    assert "student_learning_rate" in shown and f"{flips['won']} won" in shown
    made = Page(page.read_text(encoding="utf-8"))
    assert made.loads == [] and made.scripts == 0 and not made.open
    assert all(row["text"] in made.text for row in flips["rows"])


def test_compare_names_no_best_run_for_other_test_texts(finished_run: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(finished_run, other)
    record, metrics = (read_json(other / name) for name in ("run.json", "metrics.json"))
    write_json(other / "run.json", record | {"data_digest": "0123456789abcdef"})
    write_json(other / "metrics.json", metrics | {"trial": False})
    rows = pd.read_parquet(other / "predictions.parquet")
    rows.assign(text=rows["text"] + " !").to_parquet(other / "predictions.parquet")

    page = tmp_path / "runs.html"
    shown = answered("compare", finished_run, other, "--html", page)
    assert "Different test texts: the runs cannot be compared." in shown
    assert "other has other test texts" in Page(page.read_text(encoding="utf-8")).text
    for claim in ("has the best", "same result", "common test texts", "▲", "▼"):
        assert claim not in shown
    assert "0123456789ab" in shown and "0123456789abc" not in shown
    assert "baseline right frames" in shown
    assert "finished is a trial run: no run can be called the best." in " ".join(shown.split())


@pytest.fixture
def pair(finished_run: Path, tmp_path: Path) -> Callable[..., list[Path]]:
    """Two runs on the same 20 texts: which answers are right after, by language."""

    def make(after: dict[str, list[bool]], before: bool = True, trial: bool = False) -> list[Path]:
        rows = pd.read_parquet(finished_run / "predictions.parquet")
        right = [(lang, value) for lang, values in after.items() for value in values]
        rows = rows.iloc[[0] * len(right)].reset_index(drop=True)
        rows["text"] = [f"text {number} | <b>`x`" for number in range(len(right))]
        rows["lang"] = [lang for lang, _ in right]
        runs = []
        for name, truth in (("before", [before] * len(right)), ("after", [v for _, v in right])):
            run = tmp_path / name
            run.mkdir()
            shutil.copy(finished_run / "run.json", run)
            metrics = read_json(finished_run / "metrics.json") | {"trial": trial}
            metrics["quantized"]["main"] = sum(truth) / len(truth)
            write_json(run / "metrics.json", metrics)
            answers = rows.assign(quantized_right=truth)
            answers["quantized_label"] = ["right" if value else "wrong" for value in truth]
            answers.to_parquet(run / "predictions.parquet")
            runs.append(run)
        return runs

    return make


def test_loss_of_one_answer_fails_the_comparison(pair, tmp_path: Path):
    runs = pair({"english": [True] * 9 + [False]})
    report = tmp_path / "report.xml"
    done = saarthi("compare", *runs, "--fail-on-loss", "--junit", report)
    assert done.exit_code == 1
    reason = "the main metric fell from 100.0% to 90.0% (0 answers won and 1 lost of 10, p = 1)"
    assert f"failed: after is not worse than before: {reason}" in done.stderr
    [case] = junit(report)
    assert (case["name"], case["reason"]) == ("after is not worse than before", reason)
    assert saarthi("compare", *runs).exit_code == 0
    assert saarthi("compare", *reversed(runs), "--fail-on-loss").exit_code == 0


def test_loss_in_one_language_fails_the_comparison(pair):
    runs = pair({"english": [True] * 40, "hindi": [False] * 6})
    metrics = read_json(runs[0] / "metrics.json")
    metrics["quantized"]["main"] = 0.5  # as if English had won more than Hindi lost
    write_json(runs[0] / "metrics.json", metrics)
    worse = saarthi("compare", *runs, "--fail-on-loss")
    assert worse.exit_code == 1
    assert "before: hindi: 0 answers won and 6 lost, p = 0.031\n" in worse.stderr


def test_comparison_for_a_job_has_lost_answers_first(pair):
    done = saarthi("compare", *pair({"hindi": [True, False]}), "--fail-on-loss", "--markdown")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "### Compared runs"
    assert any(line.startswith("| after is not worse than before | **failed**: ") for line in lines)
    [lost] = [line for line in lines if line.startswith("| lost |")]
    assert "| `` text 1 \\| <b>`x` `` |" in lost  # without effect as markup


def test_runs_that_cannot_be_compared_are_no_pass(pair, tmp_path: Path):
    runs = pair({"english": [True] * 4}, trial=True)
    refused = saarthi("compare", *runs, "--fail-on-loss").exception
    assert isinstance(refused, ConfigError) and "before is a trial run" in str(refused)
    for run in runs:
        write_json(run / "metrics.json", read_json(run / "metrics.json") | {"trial": False})
    rows = pd.read_parquet(runs[1] / "predictions.parquet")
    rows.assign(text="other").to_parquet(runs[1] / "predictions.parquet")
    refused = saarthi("compare", *runs, "--fail-on-loss").exception
    assert isinstance(refused, ConfigError) and "have no common test texts" in str(refused)
    (runs[1] / "predictions.parquet").unlink()
    refused = saarthi("compare", *runs, "--fail-on-loss").exception
    assert isinstance(refused, ConfigError) and "have no predictions.parquet" in str(refused)
    for options in (["--junit", tmp_path / "x.xml"], ["--json", "--markdown"]):
        assert isinstance(saarthi("compare", *runs, *options).exception, InputError)


def junit(path: Path) -> list[dict[str, str]]:
    """Test cases of a report, each with the text of its failure."""
    root = ElementTree.parse(path).getroot()
    cases = [
        {**case.attrib, "reason": case.findtext("failure", "")} for case in root.iter("testcase")
    ]
    failures = sum(bool(case["reason"]) for case in cases)
    for suite in (root, *root.iter("testsuite")):
        assert (suite.get("tests"), suite.get("failures")) == (str(len(cases)), str(failures))
    return cases


def test_compare_refuses_folders_that_are_not_runs(finished_run: Path, tmp_path: Path):
    failed = saarthi("compare", finished_run, tmp_path).exception
    assert isinstance(failed, ConfigError) and str(tmp_path) in str(failed)
    assert isinstance(saarthi("compare", finished_run).exception, ConfigError)
