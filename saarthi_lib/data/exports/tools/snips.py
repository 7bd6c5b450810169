"""Snips NLU: data sets in YAML and in JSON.

Source of the description: snipsco/snips-nlu, `docs/source/dataset.rst`, `intent.py` and
`dataset.py` in `snips_nlu/dataset` (YAML intents with `[slot:entity](text)` or with a slot without
text, YAML entities; JSON `intents` with chunks in `data`, and `entities`).
"""

import re
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml

from saarthi_lib.data.exports.documents import (
    YAML,
    Head,
    items_of,
    load_json,
    mapping_of,
    row_of,
    text_of,
    yaml_nodes,
)
from saarthi_lib.data.exports.reading import Reading, example, unfit
from saarthi_lib.data.exports.spans import BadSpanError, Entity, joined
from saarthi_lib.data.formats.columns import RawRow

_TYPE = re.compile(r"^type\s*:\s*(intent|entity)\s*$", re.MULTILINE)
_NAMES = r"\[(?P<slot>[^\[\]:()]+)(?::(?P<entity>[^\[\]()]*))?\]"
_SLOT_ALONE = re.compile(_NAMES + r"(?!\()")
_SLOT = re.compile(_NAMES + r"\((?P<text>[^()]*)\)")


def recognize(head: Head) -> str:
    """Whether a file has intents or entities."""
    if head.suffix in YAML:
        return "rows" if _TYPE.search(head.text) else ""
    intents = head.object.get("intents")
    if (
        head.is_array
        or not isinstance(intents, dict)
        or not isinstance(head.object.get("entities"), dict)
    ):
        return ""
    fits = all(isinstance(each, dict) and "utterances" in each for each in intents.values())
    return "rows" if fits else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Utterances of the intents; the slot is the label of an entity.

    As in Snips, slots without text get the values of their entity in turn: those of the YAML files
    in the same folder. Utterances with a slot of a built-in entity are counted.
    """
    if path.suffix.lower() in YAML:
        yield from _yaml_rows(path, reading)
    else:
        yield from _json_rows(load_json(path), path, reading)


def parse_markup(text: str) -> tuple[str, list[Entity]]:
    """Text and entities of an utterance such as `lights in the [room:room](kitchen)`.

    Raises:
        BadSpanError: the markup cannot be read with certainty.
    """
    parts: list[tuple[str, str, dict[str, Any]]] = []
    end = 0
    for match in _SLOT.finditer(text):
        parts += [(text[end : match.start()], "", {}), (match["text"], match["slot"].strip(), {})]
        end = match.end()
    parts.append((text[end:], "", {}))
    for part, label, _ in parts:
        if not label and "](" in part:
            raise BadSpanError(f"the markup in {part!r} is not [slot:entity](text); correct it")
    return joined(parts)


def _yaml_rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    values: dict[str, Iterator[str]] | None = None
    for document in yaml_nodes(path):
        fields = mapping_of(document)
        if text_of(fields.get("type")) == "entity":
            _keep_values(fields, path, reading)
            continue
        if text_of(fields.get("type")) != "intent":
            reading.leave("unknown section", path, row_of(document))
            continue
        entities = _entities_of_slots(fields)
        for node in items_of(fields.get("utterances")):
            utterance: str | None = text_of(node)
            if _SLOT_ALONE.search(text_of(node)):
                values = _values_in(path.parent) if values is None else values
                utterance = _filled(text_of(node), entities, values)
                filled = ", filled with values" if utterance else " or values"
                kind = f"utterance whose slot has no text{filled}"
                reading.leave(kind, path, row_of(node))
            if utterance is not None:
                yield _yaml_row(row_of(node), utterance, text_of(fields.get("name")))


def _filled(
    utterance: str, entities: dict[str, str], values: dict[str, Iterator[str]]
) -> str | None:
    """An utterance with the next values for slots without text; None if a slot lacks values."""
    parts, end = [], 0
    for match in _SLOT_ALONE.finditer(utterance):
        slot = match["slot"].strip()
        value = next(values.get(match["entity"] or entities.get(slot, slot), iter(())), None)
        if value is None:
            return None
        parts += [utterance[end : match.start()], f"[{slot}]({value})"]
        end = match.end()
    return "".join([*parts, utterance[end:]])


def _entities_of_slots(fields: dict[str, yaml.Node]) -> dict[str, str]:
    """The entity of each slot of an intent, which the intent or an utterance names."""
    slots = [mapping_of(node) for node in items_of(fields.get("slots"))]
    found = {text_of(slot.get("name")): text_of(slot.get("entity")) for slot in slots}
    for node in items_of(fields.get("utterances")):
        for match in re.finditer(_NAMES, text_of(node)):
            if match["entity"]:
                found.setdefault(match["slot"].strip(), match["entity"])
    return found


def _values_in(folder: Path) -> dict[str, Iterator[str]]:
    """Values of entities in the files of a folder, in turn and without end."""
    values: dict[str, dict[str, None]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in YAML or not path.is_file() or not recognize(Head(path)):
            continue
        for fields in map(mapping_of, yaml_nodes(path)):
            entities = _entities_of_slots(fields)
            name = text_of(fields.get("name"))
            found = [
                (name, text_of(each))
                for node in items_of(fields.get("values"))
                for each in items_of(node) or [node]
            ] + [
                (match["entity"] or entities.get(slot, slot), match["text"])
                for node in items_of(fields.get("utterances"))
                for match in _SLOT.finditer(text_of(node))
                if (slot := match["slot"].strip())
            ]
            for entity, value in found:
                if value.strip() and not set(value) & set("[]()"):
                    values.setdefault(entity, {})[value.strip()] = None
    return {entity: cycle(known) for entity, known in values.items()}


def _yaml_row(row: int, text: str, intent: str) -> RawRow:
    if not text:
        return unfit(row, "is not a text; put an utterance that begins with '[' in quotes")
    try:
        plain, entities = parse_markup(text.strip())
    except BadSpanError as error:
        return unfit(row, str(error))
    return example(row, plain, intent, None, entities)


def _keep_values(fields: dict[str, yaml.Node], path: Path, reading: Reading) -> None:
    for node in items_of(fields.get("values")):
        values = [text_of(each) for each in items_of(node)]
        for synonym in values[1:]:
            reading.synonym(values[0], synonym, path, row_of(node))
    if isinstance(fields.get("matching_strictness"), yaml.ScalarNode):
        reading.leave("entity setting", path, row_of(fields["matching_strictness"]))


def _json_rows(content: dict[str, Any], path: Path, reading: Reading) -> Iterator[RawRow]:
    for name, given in content["entities"].items():
        for each in given.get("data") or [] if isinstance(given, dict) else []:
            for synonym in each.get("synonyms") or []:
                reading.synonym(each.get("value"), synonym, path, name)
    row = 0
    for intent, given in content["intents"].items():
        for utterance in given["utterances"]:
            row += 1
            chunks = utterance.get("data") if isinstance(utterance, dict) else None
            if not isinstance(chunks, list) or not all(
                isinstance(each, dict) and isinstance(each.get("text"), str) for each in chunks
            ):
                yield unfit(row, f"an utterance of '{intent}' has no 'data' with texts; correct it")
                continue
            text, entities = joined(
                (each["text"], str(each.get("slot_name") or each.get("entity") or ""), {})
                for each in chunks
            )
            yield example(row, text, intent, content.get("language"), entities)
