"""Labels of several files, names of missing values, and two columns of one kind."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.check import check_data
from saarthi_lib.data.check.findings import DataCheck
from saarthi_lib.data.gather import Gathered, gather
from saarthi_lib.evaluation.tabular import evaluate_file
from saarthi_lib.inference.predictor import Predictor
from tests.conftest import reading
from tests.tiny_bundle import write_tiny_bundle

INTENT = "intent_classification"
Files = dict[str, str]  # cells of labels by file, with spaces between


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")
    return path


def checked(folder: Path, config: TrainConfig) -> tuple[Gathered, DataCheck]:
    found = gather(folder, config)
    return found, check_data(found.tables, config.task, found.problems, max_seq_len=26)


@pytest.mark.parametrize("name", ["nan", "NaN", "null", "NULL", "<NA>", "None", "N/A", "#N/A"])
@pytest.mark.parametrize("column", ["label", "lang"])
def test_names_of_missing_values_are_warned_about(tmp_path: Path, name: str, column: str) -> None:
    rows = [f"text number {i},{'on' if i % 2 else 'off'},hindi" for i in range(40)]
    for at in (3, 7, 11):
        text, label, lang = rows[at].split(",")
        rows[at] = ",".join([text, name, lang] if column == "label" else [text, label, name])
    content = "\n".join(["text,label,lang", *rows])
    for split in ("train", "dev", "test"):
        write(tmp_path / f"{split}.csv", content)
    found, check = checked(tmp_path, reading(INTENT))

    doubts = [finding for finding in check.findings if finding.check == "missing-name"]
    assert [(each.severity, each.split, each.count) for each in doubts] == [
        ("warning", split, 3) for split in ("train", "validation", "test")
    ]
    assert [row.row for row in doubts[0].rows] == [5, 9, 13]
    assert "train.csv: 3 × missing name, the rows kept as written" in doubts[0].message
    written = name if column == "label" else name.lower()
    assert (found.tables["train"][column] == written).sum() == 3


@pytest.mark.parametrize("label", ["none_of_these", "nano", "nil", "nulls", "na so"])
def test_similar_labels_are_not_warned_about(tmp_path: Path, label: str) -> None:
    rows = "".join(f"text number {i},{'on' if i % 2 else label}\n" for i in range(40))
    for split in ("train", "dev", "test"):
        write(tmp_path / f"{split}.csv", f"text,label\n{rows}")
    assert not {f.check for f in checked(tmp_path, reading(INTENT))[1].findings} & {"missing-name"}


def test_out_of_scope_label_may_be_named_none(tmp_path: Path) -> None:
    rows = "".join(f"text number {i},{('on', 'off', 'None')[i % 3]}\n" for i in range(60))
    for split in ("train", "dev", "test"):
        write(tmp_path / f"{split}.csv", f"text,label\n{rows}")
    config = reading(INTENT, out_of_scope_label="None")
    assert "missing-name" not in {f.check for f in checked(tmp_path, config)[1].findings}


ALIKE = {"zero-width": ("on\u200b", "on"), "accent": ("caf\u00e9", "cafe\u0301")}
ALIKE |= {"soft hyphen": ("a\u00adb", "ab"), "full width": ("\uff4f\uff4e", "on")}


@pytest.mark.parametrize("case", ALIKE)
def test_labels_that_look_alike_are_warned_about(tmp_path: Path, case: str) -> None:
    rows = "".join(f"text number {i},{(*ALIKE[case], 'other')[i % 3]}\n" for i in range(60))
    for split in ("train", "dev", "test"):
        write(tmp_path / f"{split}.csv", f"text,label\n{rows}")
    findings = checked(tmp_path, reading(INTENT))[1].findings
    assert [f.count for f in findings if f.check == "label-names"] == [1]


def labels_of(folder: Path, files: Files) -> tuple[dict[str, list[str]], Gathered]:
    """Labels by split of files with the given cells."""
    for name, cells in files.items():
        values = cells.split()
        texts = [f"{name} {at}" for at in range(len(values))]
        if name.endswith(".parquet"):
            frame = pd.DataFrame({"text": texts, "label": [float(value) for value in values]})
            (folder / name).parent.mkdir(exist_ok=True)
            frame.to_parquet(folder / name)
            assert parquet.read_schema(folder / name).field("label").type == "double"
        else:
            lines = (f"{text},{value}\n" for text, value in zip(texts, values, strict=True))
            write(folder / name, f"text,label\n{''.join(lines)}")
    found = gather(folder, reading(INTENT))
    return {split: list(table["label"]) for split, table in found.tables.items()}, found


HELD_OUT = {"dev.csv": "1 0", "test.csv": "1 0"}
SETTLED: dict[str, tuple[Files, dict[str, list[str]]]] = {
    "two train files": (
        {"train/a.csv": "1.0 0.0", "train/b.csv": "1 0"},
        {"train": ["1", "0", "1", "0"], "test": ["1", "0"]},
    ),
    "names in one file only": (
        {"train/a.csv": "1.0 0.0 beta", "train/b.csv": "1 0"},
        {"train": ["1", "0", "beta", "1", "0"]},
    ),
    "1 in another file": (
        {"train/a.csv": "1.0 2.0", "train/b.csv": "1 beta 0", "test.csv": "1.0 2.0"},
        {"train": ["1", "2.0", "1", "beta", "0"], "test": ["1", "2.0"]},
    ),
    "CSV and Parquet": (
        {"train/a.csv": "1.0 beta 0", "train/b.parquet": "1 0"},
        {"train": ["1", "beta", "0", "1", "0"]},
    ),
    "a test of floats": (
        {"train.csv": "1.0 0.0 beta", "test.csv": "1.0 0.0", "dev.csv": "1 beta"},
        {"train": ["1.0", "0.0", "beta"], "test": ["1.0", "0.0"], "validation": ["1.0", "beta"]},
    ),
    "a test with gaps": (
        {"train.csv": "1 0", "test.csv": "1.0 0.0 1.0"},
        {"train": ["1", "0"], "test": ["1", "0", "1"]},
    ),
    "a test of other names": (
        {"train.csv": "1 0 beta", "test.csv": "1.0 beta 0"},
        {"test": ["1", "beta", "0"]},
    ),
    "a leading zero": ({"train.csv": "1 01 01.0", "test.csv": "01 1.0"}, {"test": ["01", "1"]}),
}


@pytest.mark.parametrize("case", SETTLED)
def test_numbers_have_one_name_in_all_files(tmp_path: Path, case: str) -> None:
    files, expected = SETTLED[case]
    found, gathered = labels_of(tmp_path, {**HELD_OUT, **files})
    assert {split: found[split] for split in expected} == expected
    assert "whole-number" in {problem.kind for problem in gathered.problems}


number = st.sampled_from(["1", "1.0", "2", "2.0", "3.0"])


@given(
    st.lists(st.lists(number, min_size=2, max_size=4), min_size=1, max_size=3),
    st.lists(number, min_size=1, max_size=3),
    st.booleans(),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_number_has_two_names(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[str]], test: list[str], names: bool
) -> None:
    folder = tmp_path_factory.mktemp("numbers")
    files = {f"train/{at}.csv": " ".join(part) for at, part in enumerate(parts)}
    files["train/first.csv"] = "1 2 3 beta" if names else "1 2.0 3"
    files |= {"dev.csv": "1 2", "test.csv": " ".join(test)}
    found, _ = labels_of(folder, files)

    labels = {label for each in found.values() for label in each}
    assert len(labels - {"beta"}) == len({float(label) for label in labels - {"beta"}})
    assert [float(label) for label in found["test"]] == [float(cell) for cell in test]


@pytest.mark.parametrize("labels", [("0", "1", "beta"), ("0.0", "1.0", "beta")])
def test_numbers_of_evaluated_rows_are_those_of_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: tuple[str, ...]
) -> None:
    monkeypatch.setattr("tests.tiny_bundle.SEQUENCE_LABELS", labels)
    predictor = Predictor.load(write_tiny_bundle(tmp_path / "bundle"))
    for cells in ("1.0 0.0 beta", "1 0", "1.0 0", "1.0 beta 1"):
        lines = (f"text {at},{cell}\n" for at, cell in enumerate(cells.split()))
        path = write(tmp_path / "gold.csv", f"text,label\n{''.join(lines)}")
        assert "unknown_labels" not in evaluate_file(predictor, path)
    path = write(tmp_path / "gold.csv", "text,label\na,1.00\nb,5.0\n")
    assert evaluate_file(predictor, path)["unknown_labels"] == ["5.0"]
