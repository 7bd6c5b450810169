"""Rasa: NLU data in YAML (2.x and 3.x), in Markdown and in JSON (1.x).

Source of the description: Rasa's documentation "NLU Training Data", and its readers
`rasa/shared/nlu/training_data/formats/{rasa_yaml,markdown,rasa}.py` and `entities_parser.py`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from saarthi_lib.data.exports.documents import (
    YAML,
    Head,
    items_of,
    lines_of,
    load_json,
    mapping_of,
    row_of,
    text_of,
    yaml_nodes,
)
from saarthi_lib.data.exports.reading import Reading, example, unfit
from saarthi_lib.data.exports.spans import BadSpanError, Entity, entity
from saarthi_lib.data.formats.columns import RawRow

_ENTITY = re.compile(
    r"\[(?P<text>[^\]]+?)\]"
    r"(?:\((?P<label>[^:)]+?)(?::(?P<value>[^)]+))?\)|\{(?P<object>[^}]+?)\}|\[(?P<list>\{.*?\})\])"
)
_REST = re.compile(r"\](?:\(|\{|\[\{)")  # of markup that is not an entity
_NLU = re.compile(r"^nlu\s*:", re.MULTILINE)
_PROJECT = re.compile(
    r"^(?:stories|rules|intents|responses|actions|slots|forms|session_config|pipeline|policies"
    r"|e2e_actions|assistant_id|action_endpoint|flows)\s*:",
    re.MULTILINE,
)
_SECTION = re.compile(r"#+\s*(intent|synonym|regex|lookup)\s*:\s*(.*\S)\s*$")
_ITEM = re.compile(r"\s*[-*+](?![-*+])\s*(.*\S)\s*$")
_COMMENT = re.compile(r"<!--.*?--!?>", re.DOTALL)
_HYPHEN = "does not begin with '-'; write 'examples: |', and begin each example with '- '"
_NO_LIST = "'nlu:' holds no list; begin each of its items with '- intent:'"
_KINDS = {"regex": "regex", "lookup": "lookup table"}


def recognize(head: Head) -> str:
    """Whether a file has NLU data ("rows"), or other parts of a Rasa project ("aside")."""
    if head.suffix in YAML:
        if _NLU.search(head.text):
            return "rows"
        return "aside" if _PROJECT.search(head.text) else ""
    if head.suffix == ".md":
        if re.search(r"^#+\s*intent\s*:", head.text, re.MULTILINE):
            return "rows"
        return "aside" if re.search(r"^##.*\n+\*\s", head.text, re.MULTILINE) else ""
    return "rows" if isinstance(head.object.get("rasa_nlu_data"), dict) else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Examples of intents, with their entities.

    Regexes, lookup tables, responses, and the roles and groups of entities are counted.
    """
    if path.suffix.lower() in YAML:
        yield from _yaml_rows(path, reading)
    elif path.suffix.lower() == ".md":
        yield from _markdown_rows(path, reading)
    else:
        yield from _json_rows(path, reading)


def leave_aside(path: Path, reading: Reading) -> None:
    """Count the sections of a file without NLU data: domain, stories, rules, configuration."""
    if path.suffix.lower() == ".md":
        reading.leave("Rasa stories", path)
        return
    for document in yaml_nodes(path):
        for section, node in mapping_of(document).items():
            if section != "version":
                count = len(node.value) if isinstance(node, yaml.CollectionNode) else 1
                reading.leave(f"Rasa {section}", path, row_of(node), max(count, 1))


def parse_markup(text: str) -> tuple[str, list[Entity]]:
    """Text and entities of an example such as `fly to [Rome](city)`.

    An entity's `value` is given if it differs from its text: then its text is a synonym.

    Raises:
        BadSpanError: the markup cannot be read with certainty.
    """
    plain, end = "", 0
    entities: list[Entity] = []
    for match in _ENTITY.finditer(text):
        before = text[end : match.start()]
        if before.endswith("\\") or "[" in match["text"] or match["text"].endswith("\\"):
            raise BadSpanError(
                f"the entity {match[0]!r} has nested or escaped brackets; remove the brackets"
            )
        _check_rest(before)
        plain += before
        start = len(plain)
        plain += match["text"]
        properties = _properties(match)
        value = str(properties.get("value") or match["text"])
        more: dict[str, Any] = {
            name: str(properties[name]) for name in ("role", "group") if properties.get(name)
        }
        if value != match["text"]:
            more["value"] = value
        entities.append(entity(plain, start, len(plain), properties.get("entity"), **more))
        end = match.end()
    _check_rest(text[end:])
    return plain + text[end:], entities


def _check_rest(text: str) -> None:
    if found := _REST.search(text):
        raise BadSpanError(
            f"the markup near {text[max(0, found.start() - 20) : found.end() + 10]!r} is not "
            "[text](entity) or [text]{...}; correct it"
        )


def _properties(match: re.Match[str]) -> dict[str, Any]:
    if match["label"]:
        return {"entity": match["label"], "value": match["value"]}
    source = f"{{{match['object']}}}" if match["object"] else f"[{match['list']}]"
    try:
        found = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise BadSpanError(f"{source} is not JSON ({error}); correct it") from None
    if isinstance(found, list):
        if len(found) != 1:
            raise BadSpanError(f"{match[0]!r} has {len(found)} entities for one text; keep one")
        found = found[0]
    if not isinstance(found, dict) or not found.get("entity"):
        raise BadSpanError(f'{source} names no "entity"; add it')
    return found


def _marked_row(
    row: int, text: str, intent: str, path: Path, reading: Reading, lang: Any = None
) -> RawRow:
    """An example with markup; properties of its entities are kept as synonyms or counted."""
    try:
        plain, entities = parse_markup(text)
    except BadSpanError as error:
        return unfit(row, str(error))
    count_properties(plain, entities, path, row, reading)
    return example(row, plain, intent, lang, entities)


def count_properties(
    text: str, entities: Sequence[Entity], path: Path, row: int, reading: Reading
) -> None:
    """Keep synonyms among the values of entities, and count roles and groups."""
    for each in entities:
        if "value" in each:
            reading.synonym(each["value"], text[each["start"] : each["end"]], path, row)
        for name in ("role", "group"):
            if name in each:
                reading.leave(f"{name} of an entity", path, row)


def _yaml_rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    for document in yaml_nodes(path):
        for section, node in mapping_of(document).items():
            if section == "nlu":
                if isinstance(node, yaml.MappingNode) or text_of(node):
                    yield unfit(row_of(node), _NO_LIST)
                for item in items_of(node):
                    yield from _yaml_item(item, path, reading)
            elif section != "version":
                count = len(node.value) if isinstance(node, yaml.CollectionNode) else 1
                reading.leave(f"Rasa {section}", path, row_of(node), max(count, 1))


def _yaml_item(item: yaml.Node, path: Path, reading: Reading) -> Iterator[RawRow]:
    fields = mapping_of(item)
    examples = fields.get("examples")
    if "intent" in fields:
        intent = text_of(fields["intent"])
        if "metadata" in fields:
            reading.leave("metadata", path, row_of(fields["metadata"]))
        if not items_of(examples) and not text_of(examples).strip():
            reading.leave("intent without examples", path, row_of(item))
        for row, text in _yaml_examples(examples, path, reading):
            if text is None:
                yield unfit(row, _HYPHEN)
            else:
                yield _marked_row(row, text, intent, path, reading)
    elif "synonym" in fields:
        for row, text in _yaml_examples(examples, path, reading):
            if text is None:
                reading.leave("synonym without '-'", path, row)
            else:
                reading.synonym(text_of(fields["synonym"]), text, path, row)
    elif kind := next((kind for kind in _KINDS if kind in fields), ""):
        reading.leave(_KINDS[kind], path, f"row {row_of(item)} ({text_of(fields[kind])})")
    else:
        reading.leave("unknown section", path, row_of(item))


def _yaml_examples(
    node: yaml.Node | None, path: Path, reading: Reading
) -> Iterator[tuple[int, str | None]]:
    """Examples with their lines; None for a line without the leading hyphen."""
    for item in items_of(node):
        fields = mapping_of(item)
        if "metadata" in fields:
            reading.leave("metadata", path, row_of(fields["metadata"]))
        yield row_of(item), text_of(fields.get("text") or item).strip("\n\r ")
    if isinstance(node, yaml.ScalarNode) and node.style == ">":
        yield row_of(node), None  # YAML has joined the lines
    elif isinstance(node, yaml.ScalarNode):
        for row, line in lines_of(node):
            marked = line.strip().startswith("-")
            yield row, line.strip()[1:].strip("\r ") if marked else None


def _markdown_rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    text = path.read_text(encoding="utf-8-sig")
    text = _COMMENT.sub(lambda found: "\n" * found[0].count("\n"), text)
    kind = name = ""
    for row, line in enumerate(text.split("\n"), 1):
        if section := _SECTION.match(line):
            kind, name = section.groups()
            if kind in _KINDS:
                reading.leave(_KINDS[kind], path, f"row {row} ({name})")
        elif line.startswith("#"):
            kind = name = ""
            reading.leave("unknown section", path, row)
        elif item := _ITEM.match(line):
            if kind == "intent":
                yield _marked_row(row, item[1], name, path, reading)
            elif kind == "synonym":
                reading.synonym(name, item[1], path, row)
            elif not kind:
                reading.leave("line outside a section", path, row)
        elif line.strip() and kind == "intent":
            yield unfit(row, _HYPHEN)


def _json_rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    data = load_json(path)["rasa_nlu_data"]
    for name, kind in (("regex_features", "regex"), ("lookup_tables", "lookup table")):
        for each in data.get(name) or []:
            reading.leave(kind, path, str(each.get("name") if isinstance(each, dict) else each))
    for each in data.get("entity_synonyms") or []:
        for synonym in each.get("synonyms") or []:
            reading.synonym(each.get("value"), synonym, path, "entity_synonyms")
    row = 0
    for name in ("common_examples", "intent_examples", "entity_examples"):
        for each in data.get(name) or []:
            row += 1
            yield _json_row(row, each, path, reading)


def _json_row(row: int, given: Any, path: Path, reading: Reading) -> RawRow:
    text = given.get("text") if isinstance(given, dict) else None
    if not isinstance(text, str):
        return unfit(row, "the example has no text; give it one")
    entities: list[Entity] = []
    try:
        for each in given.get("entities") or []:
            value, start, end = each.get("value"), each.get("start"), each.get("end")
            more = {name: each.get(name) for name in ("role", "group")}
            found = entity(text, start, end, each.get("entity"), **more)
            own = text[found["start"] : found["end"]]
            if value is not None and str(value) != own:
                if str(value) in text:  # another place of the text has the value
                    entity(text, start, end, each.get("entity"), covered=str(value))
                found["value"] = str(value)
            entities.append(found)
    except (BadSpanError, AttributeError) as error:
        return unfit(row, str(error))
    count_properties(text, entities, path, row, reading)
    return example(row, text, given.get("intent"), None, entities)
