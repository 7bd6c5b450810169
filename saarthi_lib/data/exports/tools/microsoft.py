"""Microsoft: conversational language understanding (CLU) projects, and LUIS applications.

Source of the description: Microsoft's documentation "Data formats accepted by conversational
language understanding" (`stringIndexType`: offsets count UTF-16 units), and "App schema
definition" of LUIS. Utterances of LUIS (`startPos` and `endPos`, both inclusive; `children`) are
described from the applications in Azure-Samples/cognitive-services-language-understanding
(`examples/example-app-models`, schemas 3 and 7) and from Rasa's reader
`rasa/shared/nlu/training_data/formats/luis.py`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saarthi_lib.data.exports.documents import Head, load_json
from saarthi_lib.data.exports.reading import Reading, example, unfit
from saarthi_lib.data.exports.spans import BadSpanError, Entity, entity
from saarthi_lib.data.formats.columns import RawRow

_SPLITS = {"": "", "train": "train", "test": "test"}
_LUIS_PARTS = {
    **{"regex_entities": "regex", "regex_features": "regex", "patterns": "pattern"},
    **{"prebuiltEntities": "prebuilt entity", "patternAnyEntities": "pattern entity"},
    **{"phraselists": "phrase list", "model_features": "phrase list"},
    **{"composites": "composite entity"},
}


def recognize(head: Head) -> str:
    """Whether a file is an exported project."""
    found = head.object
    if head.is_array:
        return ""
    if "luis_schema_version" in found and isinstance(found.get("utterances"), list):
        return "rows"
    assets = found.get("assets")
    is_clu = isinstance(assets, dict) and isinstance(assets.get("utterances"), list)
    return "rows" if is_clu else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Utterances with their intents and entities; of CLU with their split."""
    content = load_json(path)
    if "luis_schema_version" in content:
        yield from _luis_rows(content, path, reading)
    else:
        yield from _clu_rows(content, path, reading)


def _clu_rows(content: dict[str, Any], path: Path, reading: Reading) -> Iterator[RawRow]:
    metadata, assets = content.get("metadata") or {}, content["assets"]
    unit = str(content.get("stringIndexType") or "Utf16CodeUnit").lower()
    for each in assets.get("entities") or []:
        _leave_clu_entity(each, path, reading)
    for row, given in enumerate(assets["utterances"], 1):
        if not isinstance(given, dict) or not isinstance(given.get("text"), str):
            yield unfit(row, "the utterance has no text; give it one")
            continue
        dataset = str(given.get("dataset") or "")
        if dataset.lower() not in _SPLITS:
            yield unfit(row, f"the dataset {dataset!r} is not Train or Test; correct it")
            continue
        split, text = _SPLITS[dataset.lower()], given["text"]
        try:
            entities = [_clu_entity(text, each, unit) for each in given.get("entities") or []]
        except BadSpanError as error:
            yield unfit(row, str(error), split)
            continue
        lang = given.get("language") or metadata.get("language")
        yield example(row, text, given.get("intent"), lang, entities, split)


def _clu_entity(text: str, given: Any, unit: str) -> Entity:
    if not isinstance(given, dict):
        raise BadSpanError(f"{given!r} is not an entity; export the project again")
    if unit.startswith("textelement") and not text.isascii():
        raise BadSpanError("offsets count text elements; export again with Utf16CodeUnit")
    start, length = given.get("offset"), given.get("length")
    end = start + length if isinstance(start, int) and isinstance(length, int) else None
    return entity(text, start, end, given.get("category"), utf16=unit == "utf16codeunit")


def _leave_clu_entity(given: Any, path: Path, reading: Reading) -> None:
    if not isinstance(given, dict):
        return
    name = str(given.get("category", ""))
    for sublist in (given.get("list") or {}).get("sublists") or []:
        for group in sublist.get("synonyms") or []:
            for value in group.get("values") or []:
                reading.synonym(sublist.get("listKey"), value, path, name)
    reading.leave("prebuilt entity", path, name, len(given.get("prebuilts") or []))
    expressions = (given.get("regex") or {}).get("expressions") or []
    reading.leave("regex", path, name, len(expressions))


def _luis_rows(content: dict[str, Any], path: Path, reading: Reading) -> Iterator[RawRow]:
    for part, kind in _LUIS_PARTS.items():
        reading.leave(kind, path, part, len(content.get(part) or []))
    for closed in content.get("closedLists") or []:
        for sublist in closed.get("subLists") or []:
            for value in sublist.get("list") or []:
                name = str(closed.get("name", ""))
                reading.synonym(sublist.get("canonicalForm"), value, path, name)
    composites = {each.get("name") for each in content.get("composites") or []}
    for row, given in enumerate(content["utterances"], 1):
        if not isinstance(given, dict) or not isinstance(given.get("text"), str):
            yield unfit(row, "the utterance has no text; give it one")
            continue
        text = given["text"]
        try:
            entities = [
                _luis_entity(text, each, path, row, reading)
                for each in given.get("entities") or []
                if not (isinstance(each, dict) and each.get("entity") in composites)
            ]
        except BadSpanError as error:
            yield unfit(row, str(error))
            continue
        yield example(row, text, given.get("intent"), content.get("culture"), entities)


def _luis_entity(text: str, given: Any, path: Path, row: int, reading: Reading) -> Entity:
    if not isinstance(given, dict):
        raise BadSpanError(f"{given!r} is not an entity; export the application again")
    last = given.get("endPos")
    end = last + 1 if isinstance(last, int) else None
    reading.leave("child of an entity", path, row, _children(given))
    if given.get("role"):
        reading.leave("role of an entity", path, row)
    label = given.get("entity")
    return entity(text, given.get("startPos"), end, label, utf16=True, role=given.get("role"))


def _children(given: Any) -> int:
    """Number of entities inside an entity, at all depths."""
    inner = given.get("children") if isinstance(given, dict) else None
    return sum(1 + _children(each) for each in inner or [])
