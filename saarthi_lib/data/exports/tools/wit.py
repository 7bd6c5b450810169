"""Wit.ai: utterances of an exported app.

Source of the description: the exported apps in aibotsacademy/IngoHackathon2021 and
biztekdev/web-ai-data (`app.json`; `utterances/utterances-1.json`: text, intent, traits, entities
with `entity: name:role`, start, end, body; `entities/*.json`: name, roles, lookups, keywords), for
older exports `expressions.json` in hqpr/rasawit, and Rasa's reader
`rasa/shared/nlu/training_data/formats/wit.py`. The API's `GET /utterances` gives an array, whose
entities have `name` and `role`. No export with characters beyond the Basic Multilingual Plane was
seen.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saarthi_lib.data.exports.documents import Head, load_json
from saarthi_lib.data.exports.reading import Reading, example, unfit
from saarthi_lib.data.exports.spans import BadSpanError, Entity, entity
from saarthi_lib.data.formats.columns import RawRow


def recognize(head: Head) -> str:
    """Whether a file has utterances, or another part of an app (an entity, a trait)."""
    found = head.object
    if head.is_array:
        return "rows" if {"text", "entities", "traits"} <= found.keys() else ""
    utterances = found.get("utterances") or found.get("data")
    if isinstance(utterances, list) and utterances and "luis_schema_version" not in found:
        fields = {field for each in utterances if isinstance(each, dict) for field in each}
        return "rows" if "text" in fields and {"entities", "traits", "intent"} & fields else ""
    named = isinstance(found.get("name"), str) and "lookups" in found
    return "aside" if named or "zip-command" in found else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Utterances with intent and entities; the label is None without an intent.

    Traits, the roles of entities, entities without a place, and entities inside entities are
    counted.
    """
    content, lang = load_json(path), _language(path)
    if isinstance(content, dict):
        content = content.get("utterances") or content.get("data")
    for row, given in enumerate(content, 1):
        text = given.get("text") if isinstance(given, dict) else None
        if not isinstance(text, str):
            yield unfit(row, "the utterance has no text; give it one")
            continue
        reading.leave("trait", path, row, len(given.get("traits") or []))
        label = given.get("intent")
        label = label.get("name") if isinstance(label, dict) else label
        entities: list[Entity] = []
        try:
            for each in given.get("entities") or []:
                if each.get("entity") == "intent":  # of older exports
                    label = str(each.get("value", "")).strip('"')
                elif each.get("start") is None and each.get("end") is None:
                    reading.leave("entity of the whole text", path, row)
                else:
                    entities.append(_entity(text, each, path, row, reading))
        except (AttributeError, BadSpanError) as error:
            yield unfit(row, str(error))
            continue
        yield example(row, text, label, given.get("language") or lang, entities)


def leave_aside(path: Path, reading: Reading) -> None:
    """Keep the synonyms of an entity's values."""
    content = load_json(path)
    keywords = content.get("keywords") if isinstance(content, dict) else None
    for row, each in enumerate(keywords or [], 1):
        for synonym in each.get("synonyms") or []:
            reading.synonym(each.get("keyword"), synonym, path, row)


def _language(path: Path) -> Any:
    """Language of the app, whose `app.json` is in the folder above or next to the file."""
    for folder in (path.parent.parent, path.parent):
        about = folder / "app.json"
        content = load_json(about) if about.is_file() else None
        if isinstance(content, dict) and "zip-command" in content:
            return content.get("lang")
    return None


def _entity(text: str, given: dict[str, Any], path: Path, row: int, reading: Reading) -> Entity:
    name, _, role = str(given.get("entity") or given.get("name") or "").partition(":")
    role = role or str(given.get("role") or "")
    role = "" if role == name.removeprefix("wit$") else role
    if role:
        reading.leave("role of an entity", path, row)
    reading.leave("entity inside an entity", path, row, len(given.get("entities") or []))
    start, end, body = given.get("start"), given.get("end"), given.get("body")
    return entity(text, start, end, name, covered=body, unclear=True, role=role)
