"""Amazon Lex V1 and V2: bots exported as ZIP and unpacked.

Source of the description: Amazon's documentation "JSON format for importing and exporting bots in
Lex V2" (`BotLocales/LOCALE/Intents/INTENT/Intent.json`, `Slots/SLOT/Slot.json`,
`SlotTypes/TYPE/SlotType.json`), and "JSON Format for Importing and Exporting" of Lex V1 (one file:
`metadata` and a `resource`, which is a bot with `intents` and `slotTypes`, an intent or a slot
type).
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

SENTENCES = 3  # most sentences made of an utterance with slots
_SLOT = re.compile(r"\{\s*([^{}\s]+)\s*\}")


def recognize(head: Head) -> str:
    """Whether a file is an intent with sample utterances, or another part of a bot."""
    found, name = head.object, head.path.name
    if head.is_array:
        return ""
    if _is_v1(found):
        return "rows" if _v1_intents(found["resource"]) else "aside"
    if name == "Intent.json" and isinstance(found.get("sampleUtterances"), list):
        return "rows"
    parts = {"Intent.json", "Slot.json", "SlotType.json", "Bot.json", "BotLocale.json"}
    return "aside" if name in parts and "name" in found else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Sample utterances; slots are filled with values of their slot types.

    Utterances with a slot of a built-in type are counted: the export lacks its values.
    """
    content = load_json(path)
    if _is_v1(content):
        yield from _v1_rows(content["resource"], path, reading)
        return
    lang = next((after for part, after in _pairs(path) if part == "BotLocales"), "")
    given = [
        each.get("utterance") if isinstance(each, dict) else None
        for each in content["sampleUtterances"]
    ]
    if not given:
        reading.leave("intent without utterances", path, str(content.get("name")))
    yield from _filled_rows(given, content.get("name"), lang, _values(path), path, reading)


def _filled_rows(
    utterances: list[Any],
    intent: Any,
    lang: str,
    values: dict[str, list[str]],
    path: Path,
    reading: Reading,
    row: int = 0,
) -> Iterator[RawRow]:
    """Rows of the utterances of an intent, after the given number of rows."""
    for number, utterance in enumerate(utterances, 1):
        if not isinstance(utterance, str):
            row += 1
            yield unfit(row, f"sample utterance {number} has no text; export the bot again")
            continue
        slots = _SLOT.findall(utterance)
        place = f"utterance {number} of {intent}"
        if lacking := [slot for slot in slots if not values.get(slot)]:
            kind = "utterance whose slot has a built-in type or no values"
            reading.leave(kind, path, f"{place} ({lacking[0]})")
            continue
        most = max((len(values[slot]) for slot in slots), default=1)
        if slots:
            reading.leave("utterance with slots, filled with values", path, place)
        for at in range(min(most, SENTENCES)):
            row += 1
            text, entities = joined(_filled(utterance, values, number + at))
            yield example(row, text, intent, lang.replace("_", "-"), entities)


def _is_v1(found: Any) -> bool:
    about = found.get("metadata") if isinstance(found, dict) else None
    is_lex = isinstance(about, dict) and about.get("importType") == "LEX"
    return is_lex and isinstance(found.get("resource"), dict)


def _v1_intents(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Intents of a bot or of an exported intent in Lex V1."""
    intents = resource.get("intents")
    if not isinstance(intents, list):
        intents = [resource] if "sampleUtterances" in resource else []
    return [intent for intent in intents if isinstance(intent, dict)]


def _v1_rows(resource: dict[str, Any], path: Path, reading: Reading) -> Iterator[RawRow]:
    types = {}
    for given in resource.get("slotTypes") or []:
        listed = _v1_values(given)
        types[str(given.get("name"))] = [value for value, _ in listed]
        _keep_synonyms(listed, path, reading)
    lang, row = str(resource.get("locale") or ""), 0
    for intent in _v1_intents(resource):
        slots = intent.get("slots") or []
        values = {str(each.get("name")): types.get(str(each.get("slotType")), []) for each in slots}
        for each in slots:
            listed = each.get("sampleUtterances") or []
            reading.leave("utterance of a slot", path, str(each.get("name")), len(listed))
        name, given = intent.get("name"), intent.get("sampleUtterances") or []
        if not given:
            reading.leave("intent without utterances", path, str(name))
        for raw in _filled_rows(given, name, lang, values, path, reading, row):
            row = raw.row
            yield raw


def _v1_values(content: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Values of a slot type of Lex V1 with their synonyms."""
    return [
        (str(each["value"]), [*map(str, each.get("synonyms") or [])])
        for each in content.get("enumerationValues") or []
        if each.get("value")
    ]


def leave_aside(path: Path, reading: Reading) -> None:
    """Keep the synonyms of a slot type, and count other parts."""
    content = load_json(path)
    if _is_v1(content):
        _keep_synonyms(_v1_values(content["resource"]), path, reading)
        return
    _keep_synonyms(_type_values(content), path, reading)
    if path.name == "Intent.json":
        reading.leave("intent without utterances", path, str(content.get("name")))
    listed = content.get("sampleUtterances") if path.name == "Slot.json" else None
    reading.leave("utterance of a slot", path, str(content.get("name")), len(listed or []))
    if (content.get("valueSelectionSetting") or {}).get("regexFilter"):
        reading.leave("regex", path, str(content.get("name", "")))


def _keep_synonyms(values: list[tuple[str, list[str]]], path: Path, reading: Reading) -> None:
    for value, synonyms in values:
        for synonym in synonyms:
            reading.synonym(value, synonym, path, value)


def _filled(
    utterance: str, values: dict[str, list[str]], at: int
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Parts of an utterance with a value for each slot."""
    end = 0
    for match in _SLOT.finditer(utterance):
        yield utterance[end : match.start()], "", {}
        slot = match[1]
        yield values[slot][at % len(values[slot])], slot, {}
        end = match.end()
    yield utterance[end:], "", {}


def _values(path: Path) -> dict[str, list[str]]:
    """Values of the slots of an intent."""
    types = path.parent.parent.parent / "SlotTypes"
    found: dict[str, list[str]] = {}
    for file in sorted((path.parent / "Slots").glob("*/Slot.json")):
        slot = load_json(file)
        name = str(slot.get("slotTypeName", ""))
        if "/" in name or "\\" in name or name.startswith("."):
            raise DataError(f"{file}: the slot type {name!r} is not a plain name; correct it")
        type_file = types / name / "SlotType.json"
        if name and type_file.is_file():
            listed = _type_values(load_json(type_file))
            found[str(slot.get("name", file.parent.name))] = [value for value, _ in listed]
    return found


def _type_values(content: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Values of a slot type with their synonyms."""
    found = []
    for each in content.get("slotTypeValues") or []:
        value = str((each.get("sampleValue") or {}).get("value") or "")
        synonyms = [str(other.get("value", "")) for other in each.get("synonyms") or []]
        if value:
            found.append((value, synonyms))
    return found


def _pairs(path: Path) -> list[tuple[str, str]]:
    return list(zip(path.parts, path.parts[1:], strict=False))
