"""Expand Home Assistant's sentence templates at random, with the spans of their slots."""

import importlib.util
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import yaml

if TYPE_CHECKING:
    from hassil.expression import Expression

LANGUAGES = {"en": "english", "hi": "hindi"}
# Numbers that people say, narrower than the templates' ranges.
_NUMBERS = {
    "temperature": range(16, 31),
    "color_temperature": range(2000, 6600, 100),
    "timer_hours": range(1, 13),
    "timer_minutes": range(1, 61),
    "timer_seconds": range(5, 61),
    "percentage": range(5, 101, 5),
}
_SHARE_IN_WORDS = 0.3
_PUNCTUATION = tuple(",.?!;:।")


class Entity(TypedDict):
    """Value of a slot: characters of the text, end exclusive, and the slot's name."""

    start: int
    end: int
    label: str


class Row(TypedDict):
    """A labelled sentence."""

    text: str
    intent: str
    entities: list[Entity]
    lang: str


@dataclass(frozen=True)
class Template:
    """One sentence template; `domains` are the kinds of device that its `{name}` may be."""

    language: str
    intent: str
    text: str
    domains: tuple[str, ...]


class Sampler:
    """Expands one language's templates at random."""

    def __init__(self, language: str, rng: random.Random) -> None:
        spec = importlib.util.find_spec("home_assistant_intents")
        assert spec is not None and spec.origin is not None  # the caller found the package
        path = Path(spec.origin).parent / "data" / f"{language}.json"
        self._data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        lists = Path(__file__).with_name("home_assistant.yaml").read_text(encoding="utf-8")
        self._values: dict[str, list[str]] = yaml.safe_load(lists)[language]
        self._language = language
        self._rng = rng
        self._parsed: dict[str, Expression] = {}

    def templates(self) -> Iterator[Template]:
        """Yield each template once, with all domains that list it."""
        for intent, content in self._data["intents"].items():
            domains: dict[str, list[str]] = {}
            for block in content["data"]:
                for text in block["sentences"]:
                    wanted = block.get("requires_context", {}).get("domain", [])
                    domains[text] = [*domains.get(text, []), *wanted]
            for text, wanted in domains.items():
                yield Template(self._language, intent, text, tuple(dict.fromkeys(wanted)))

    def row(self, template: Template, new_names: bool) -> Row:
        """Expand a template into a row.

        Args:
            template: the template.
            new_names: whether slots may have the values that train lacks.
        """
        text, entities = _join(self._expand(self._parse(template.text), template, new_names))
        lang = LANGUAGES[template.language]
        return {"text": text, "intent": template.intent, "entities": entities, "lang": lang}

    def _parse(self, text: str) -> "Expression":
        from hassil.parse_expression import parse_sentence

        if text not in self._parsed:
            self._parsed[text] = parse_sentence(text).expression
        return self._parsed[text]

    def _expand(
        self, expression: "Expression", template: Template, new_names: bool
    ) -> list[tuple[str, str | None]]:
        """Parts of the sentence: text, and the slot's name if it fills a slot."""
        from hassil import expression as kinds

        if isinstance(expression, kinds.TextChunk):
            return [(expression.original_text, None)]
        if isinstance(expression, kinds.RuleReference):
            rule = self._data["expansion_rules"][expression.rule_name]
            return self._expand(self._parse(rule), template, new_names)
        if isinstance(expression, kinds.ListReference):
            value = self._value(expression.list_name, template, new_names)
            return [(value, expression.slot_name)]
        items = list(cast(kinds.Group, expression).items)
        if isinstance(expression, kinds.Alternative):
            items = [self._rng.choice(items)]
        elif isinstance(expression, kinds.Permutation):
            self._rng.shuffle(items)
        return [part for item in items for part in self._expand(item, template, new_names)]

    def _value(self, list_name: str, template: Template, new_names: bool) -> str:
        content = self._data["lists"].get(list_name, {})
        if "values" in content:
            value = self._rng.choice(content["values"])
            return _join(self._expand(self._parse(value["in"]), template, new_names))[0]
        if "range" in content:
            return self._number(list_name, content["range"])
        if list_name == "name":
            list_name = self._rng.choice([d for d in template.domains if d in self._values])
            if "{name} <light>" in template.text:
                list_name = "light_stem"
        values = self._values[list_name]
        return self._rng.choice(values if new_names else values[: len(values) - len(values) // 5])

    def _number(self, list_name: str, limits: dict[str, Any]) -> str:
        number = self._rng.choice(_NUMBERS.get(list_name) or _NUMBERS[limits["type"]])
        # People say hours, minutes and seconds in words, but not "forty two%".
        if list_name.startswith("timer") and self._rng.random() < _SHARE_IN_WORDS:
            from hassil.numbers import get_rbnf_engine

            return get_rbnf_engine(self._language).format_number(number).text
        return str(number)


def _join(parts: Iterable[tuple[str, str | None]]) -> tuple[str, list[Entity]]:
    """Join parts into a sentence, spaced as people write, with the spans of its slots."""
    text = ""
    entities: list[Entity] = []
    for raw, label in parts:
        part = re.sub(r"\s+", " ", raw)
        if not text or text.endswith(" "):
            part = part.lstrip()
        after_slot = bool(entities) and len(text.rstrip()) == entities[-1]["end"]
        if after_slot and label is None:
            # "first floor" before a template's own "[floor]".
            last_word = text.split()[-1]
            part = re.sub(rf"^{re.escape(last_word)}\b", "", part)
            if part and part[0].isalpha() and not text.endswith(" "):
                part = f" {part}"  # 4000k: the slot is a word of its own
        if part.startswith(_PUNCTUATION):
            text = text.rstrip()
        if label is not None:
            entities.append({"start": len(text), "end": len(text) + len(part), "label": label})
        text += part
    return text.rstrip(), entities
