"""Untrusted JSON is accepted only if every reader parses it alike, in a time linear in its size."""

import json
import time
from pathlib import Path

import pytest

from saarthi_lib.data.formats.json_rows import json_records
from saarthi_lib.errors import ArtifactError, BundleError
from saarthi_lib.evaluation.stored import finished_record
from saarthi_lib.json_text import parse_json
from saarthi_lib.tasks import Labels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' occurs twice"),
        (b'{"a": NaN}', "NaN is not valid"),
        (b'{"a": 1e999}', "range|Out|JSON compliant"),
        (b'"\\ud800"', "surrogates"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff", "utf-8"),
    ],
)
def test_content_that_readers_take_differently(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(content)


def test_labels_given_twice_are_refused() -> None:
    for content in (
        b'{"sequence": ["a", "b"], "token": [], "sequence": ["b", "a"]}',
        b'{"sequence": [], "token": ["O"], "following": {"O": {"O": 1}, "O": {}}}',
    ):
        with pytest.raises(BundleError, match="occurs twice"):
            Labels.parse(content, "labels.json")


def test_many_keys_take_little_time(tmp_path: Path) -> None:
    keys = [f'"k{number}": 1' for number in range(50_000)]
    path = tmp_path / "train.jsonl"
    path.write_text("{" + ", ".join([*keys, keys[-1]]) + "}\n", encoding="utf-8")
    start = time.process_time()
    [fault] = json_records(path)
    assert "'k49999' occurs twice" in getattr(fault, "message", "")
    assert time.process_time() - start < 5


def test_huge_files_of_runs_are_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"config": {}}), encoding="utf-8")
    with (tmp_path / "run.json").open("rb+") as file:
        file.truncate(2**33)  # sparse: needs no disk space
    with pytest.raises(ArtifactError, match=r"run\.json: cannot be read \(it has 8589934592 bytes"):
        finished_record(tmp_path)
