"""Dialogflow ES and CX: agents exported as ZIP and unpacked.

Source of the description: for ES, Rasa's reader
`rasa/shared/nlu/training_data/formats/dialogflow.py` and the agent in
Apress/building-chatbots-with-python; for CX, Google's pages "JSON package export format" and
EntityType (`kind`), and the agents in laveshnk-crypto/PizzaFlow and cindydidi/gdf.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saarthi_lib.data.exports.documents import Head, load_json
from saarthi_lib.data.exports.reading import Reading, example, unfit
from saarthi_lib.data.exports.spans import joined
from saarthi_lib.data.formats.columns import RawRow
from saarthi_lib.errors import DataError

_USER_SAYS = re.compile(r"(.+)_usersays_([\w-]+)")
_ENTRIES = re.compile(r"(.+)_entries_([\w-]+)")
_IGNORED = "@sys.ignore"


def recognize(head: Head) -> str:
    """Whether a file has training phrases ("rows"), or other parts of an agent ("aside")."""
    found, name = head.object, head.path.stem
    if head.suffix != ".json":
        return ""
    if head.is_array:
        named = _USER_SAYS.fullmatch(name) or "isTemplate" in found or "count" in found
        if isinstance(found.get("data"), list) and named:
            return "rows"
        return "aside" if _ENTRIES.fullmatch(name) and "value" in found else ""
    if isinstance(found.get("trainingPhrases"), list) or isinstance(found.get("userSays"), list):
        return "rows"
    intents = found.get("intents")
    if isinstance(intents, list) and any(_has_phrases(intent) for intent in intents):
        return "rows"
    if isinstance(found.get("entities"), list) and "entityTypes" in head.path.parts:
        return "aside"
    es_intent = {"responses", "contexts"} <= found.keys()
    es_entity = "isOverridable" in found or "isEnum" in found
    cx_entity = str(found.get("kind", "")).startswith("KIND_") and "displayName" in found
    agent = head.path.name == "agent.json" and bool(
        {"language", "defaultLanguageCode"} & found.keys()
    )
    parts = es_intent or es_entity or cx_entity or agent or _is_cx_intent(head.path, found)
    return "aside" if parts else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Training phrases; the alias (ES) or parameter (CX) of a part is the label of its entity."""
    content = load_json(path)
    if isinstance(content, list):
        yield from _es_rows(content, path, _intent_name(path), _language(path), reading)
    elif isinstance(content.get("trainingPhrases"), list):
        name = content.get("displayName") or _cx_intent_name(path)
        lang = path.stem if path.parent.name == "trainingPhrases" else ""
        yield from _cx_rows(content["trainingPhrases"], path, name, lang, reading)
    elif isinstance(content.get("userSays"), list):
        yield from _es_rows(content["userSays"], path, str(content.get("name", "")), "", reading)
    else:
        start = 0
        for intent in filter(_has_phrases, content["intents"]):
            phrases = intent["trainingPhrases"]
            name = intent.get("displayName", "")
            yield from _cx_rows(phrases, path, name, "", reading, start)
            start += len(phrases)


def leave_aside(path: Path, reading: Reading) -> None:
    """Keep the synonyms of an entity's entries, and count other parts."""
    content = load_json(path)
    entries = content if isinstance(content, list) else content.get("entities")
    if isinstance(entries, list):
        for row, entry in enumerate(entries, 1):
            _keep_synonyms(entry, path, row, reading)
        return
    if _is_cx_intent(path, content):
        return
    for part in ("responses", "events", "contexts", "templates"):
        if isinstance(content.get(part), list):
            name = str(content.get("name", ""))
            reading.leave(f"Dialogflow {part}", path, name, len(content[part]))
    if content.get("isRegexp") or content.get("kind") == "KIND_REGEXP":
        reading.leave("regex", path, str(content.get("displayName") or content.get("name", "")))
    if not {"responses", "isOverridable", "isEnum", "kind"} & content.keys():
        reading.leave("Dialogflow settings", path)


def _keep_synonyms(entry: Any, path: Path, row: int, reading: Reading) -> None:
    if not isinstance(entry, dict):
        return
    for synonym in entry.get("synonyms") or []:
        if "@" in str(synonym):
            reading.leave("composite entity value", path, row)
        else:
            reading.synonym(entry.get("value"), synonym, path, row)


def _es_rows(
    phrases: list[Any], path: Path, intent: str, lang: str, reading: Reading
) -> Iterator[RawRow]:
    for row, phrase in enumerate(phrases, 1):
        parts = phrase.get("data") if isinstance(phrase, dict) else None
        if not isinstance(parts, list) or not all(map(_is_part, parts)):
            yield unfit(row, "the phrase has no 'data' with texts; export the agent again")
        elif phrase.get("isTemplate"):
            reading.leave("template with entities instead of text", path, row)
        else:
            text, entities = joined(
                (part["text"], _es_label(part, path, row, reading), {}) for part in parts
            )
            yield example(row, text, intent, lang or phrase.get("lang"), entities)


def _es_label(part: dict[str, Any], path: Path, row: int, reading: Reading) -> str:
    if part.get("meta") == _IGNORED:
        reading.leave(f"part marked {_IGNORED}", path, row)
        return ""
    return str(part.get("alias") or str(part.get("meta") or "").lstrip("@"))


def _cx_rows(
    phrases: list[Any], path: Path, intent: str, lang: str, reading: Reading, start: int = 0
) -> Iterator[RawRow]:
    for row, phrase in enumerate(phrases, start + 1):
        parts = phrase.get("parts") if isinstance(phrase, dict) else None
        if not isinstance(parts, list) or not all(map(_is_part, parts)):
            yield unfit(row, "the phrase has no 'parts' with texts; export the agent again")
            continue
        text, entities = joined(
            (part["text"], str(part.get("parameterId") or ""), {}) for part in parts
        )
        yield example(row, text, intent, phrase.get("languageCode") or lang, entities)


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _is_cx_intent(path: Path, content: dict[str, Any]) -> bool:
    """Whether a file of CX names an intent and its parameters."""
    return path.parent.parent.name == "intents" and "displayName" in content


def _has_phrases(intent: Any) -> bool:
    return isinstance(intent, dict) and isinstance(intent.get("trainingPhrases"), list)


def _language(path: Path) -> str:
    found = _USER_SAYS.fullmatch(path.stem)
    return found[2] if found else ""


def _intent_name(path: Path) -> str:
    """Name of the intent in the file next to its phrases, or in the name of the file."""
    found = _USER_SAYS.fullmatch(path.stem)
    base = found[1] if found else path.stem
    return _name_in(path.with_name(f"{base}.json"), "name") or base


def _cx_intent_name(path: Path) -> str:
    folder = path.parent.parent
    return _name_in(folder / f"{folder.name}.json", "displayName") or folder.name


def _name_in(path: Path, field: str) -> str:
    try:
        content = load_json(path)
    except (OSError, DataError):
        return ""
    return str(content.get(field) or "") if isinstance(content, dict) else ""
