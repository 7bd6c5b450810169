"""Exports with wrong values in any place: rows, or an error of the library; never another one."""

import json
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saarthi_lib.data.exports.folder import exports_in, survey
from saarthi_lib.data.formats import Columns
from saarthi_lib.errors import DataError
from tests.saarthi_lib.data.exports.writers import LABELS, SPANS, TAGS, base_rows, lex

WRITERS = {**SPANS, **TAGS, **LABELS, "lex": lex}
WRONG: list[Any] = [None, 0, -1, 1.5, True, "", "x", "\ud83d\ude00", [], ["x"], {}, {"a": 1}, 10**9]


def mutated(value: Any, choose: Random) -> Any:
    """A JSON value with one wrong value at a random place."""
    if not isinstance(value, list | dict) or not value or choose.random() < 0.15:
        return choose.choice(WRONG)
    copy = value.copy()
    place = choose.choice([*copy] if isinstance(copy, dict) else range(len(copy)))
    copy[place] = mutated(copy[place], choose)
    return copy


def damage(path: Path, choose: Random) -> None:
    """Change one value of a JSON file, or one part of a text."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json" and text[0] in "[{" and "\n" not in text:
        path.write_text(json.dumps(mutated(json.loads(text), choose)), encoding="utf-8")
    elif path.suffix in (".json", ".jsonl"):
        lines = text.splitlines()
        at = choose.randrange(len(lines))
        lines[at] = json.dumps(mutated(json.loads(lines[at]), choose))
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        start = choose.randrange(len(text))
        part = choose.choice(["", "\n", "[", "](", "{", ": ", "\t", "- ", '"', "\x00", "&a "])
        path.write_text(text[:start] + part + text[start + choose.randrange(4) :], encoding="utf-8")


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_damaged_export_gives_rows_or_an_error(name: str, seed: int) -> None:
    choose = Random(seed)
    with TemporaryDirectory() as scratch, suppress(DataError):
        folder = Path(scratch)
        WRITERS[name](folder, base_rows()[:4])
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        damage(choose.choice([path for path in files if path.suffix != ".arrow"]), choose)
        export = exports_in(folder)
        survey(export, Columns(sequence=True))
