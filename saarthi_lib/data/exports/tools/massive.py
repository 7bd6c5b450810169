"""MASSIVE: JSON lines with a column `partition`.

Source of the description: Amazon's repository alexa/massive, README (`utt`, `annot_utt` with
`[slot : value]`, `intent`, `locale`, `partition`: train, dev or test). Between slots, `annot_utt`
has spaces that `utt` lacks in Chinese and Japanese (seen in rows of zh-CN).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saarthi_lib.data.exports.documents import Head, json_objects
from saarthi_lib.data.exports.reading import Reading, example, unfit
from saarthi_lib.data.exports.spans import Entity, joined
from saarthi_lib.data.formats.columns import Fault, RawRow

_SLOT = re.compile(r"\[\s*([^\[\]:]+?)\s*:\s*([^\[\]]*?)\s*\]")
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


def recognize(head: Head) -> str:
    """Whether a file has utterances of MASSIVE."""
    return "rows" if {"utt", "annot_utt", "intent", "partition"} <= head.object.keys() else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Utterances with intent, slots, locale and split."""
    for row, found in json_objects(path):
        if isinstance(found, Fault):
            yield RawRow(row, faults=(found,))
        else:
            yield _row(row, found)


def _row(row: int, found: dict[str, Any]) -> RawRow:
    partition, text = str(found.get("partition")), found.get("utt")
    if partition not in _SPLITS:
        return unfit(row, f"the partition {partition!r} is not train, dev or test; correct it")
    split = _SPLITS[partition]
    if not isinstance(text, str):
        return unfit(row, "'utt' is not a text; correct it", split)
    plain, entities = joined(_parts(str(found.get("annot_utt") or "")))
    if "".join(plain.split()) != "".join(text.split()):
        return unfit(row, f"annot_utt is {plain!r} without slots, but utt {text!r}", split)
    _move(entities, plain, text)
    return example(row, text, found.get("intent"), found.get("locale"), entities, split)


def _move(entities: list[Entity], plain: str, text: str) -> None:
    """Change offsets in a text to those in another, which differs in spaces only."""
    place = dict(zip(_marks(plain), _marks(text), strict=True))
    for each in entities:
        each["start"], each["end"] = place[each["start"]], place[each["end"] - 1] + 1


def _marks(text: str) -> list[int]:
    """Offsets of the characters that are not spaces."""
    return [at for at, character in enumerate(text) if not character.isspace()]


def _parts(annotated: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    end = 0
    for match in _SLOT.finditer(annotated):
        yield annotated[end : match.start()], "", {}
        yield match[2], match[1], {}
        end = match.end()
    yield annotated[end:], "", {}
