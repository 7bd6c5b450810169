"""Amazon Lex V2: bots exported as ZIP and unpacked.

Source of the description: Amazon's documentation "JSON format for importing and exporting bots in
Lex V2" (`BotLocales/LOCALE/Intents/INTENT/Intent.json`, `Slots/SLOT/Slot.json`,
`SlotTypes/TYPE/SlotType.json`).
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
    if name == "Intent.json" and isinstance(found.get("sampleUtterances"), list):
        return "rows"
    parts = {"Intent.json", "Slot.json", "SlotType.json", "Bot.json", "BotLocale.json"}
    return "aside" if name in parts and "name" in found else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Sample utterances; slots are filled with values of their slot types.

    Utterances with a slot of a built-in type are counted: the export lacks its values.
    """
    content = load_json(path)
    values = _values(path)
    lang = next((after for part, after in _pairs(path) if part == "BotLocales"), "")
    row = 0
    for number, given in enumerate(content["sampleUtterances"], 1):
        utterance = given.get("utterance") if isinstance(given, dict) else None
        if not isinstance(utterance, str):
            row += 1
            yield unfit(row, f"sample utterance {number} has no text; export the bot again")
            continue
        slots = _SLOT.findall(utterance)
        if lacking := [slot for slot in slots if not values.get(slot)]:
            kind = "utterance whose slot has a built-in type or no values"
            reading.leave(kind, path, f"utterance {number} ({lacking[0]})")
            continue
        most = max((len(values[slot]) for slot in slots), default=1)
        if slots:
            reading.leave("utterance with slots, filled with values", path, f"utterance {number}")
        for at in range(min(most, SENTENCES)):
            row += 1
            text, entities = joined(_filled(utterance, values, number + at))
            yield example(row, text, content.get("name"), lang.replace("_", "-"), entities)


def leave_aside(path: Path, reading: Reading) -> None:
    """Keep the synonyms of a slot type."""
    content = load_json(path)
    for value, synonyms in _type_values(content):
        for synonym in synonyms:
            reading.synonym(value, synonym, path, value)
    if content.get("valueSelectionSetting", {}).get("regexFilter"):
        reading.leave("regex", path, str(content.get("name", "")))


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
