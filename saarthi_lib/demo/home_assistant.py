"""Demonstration data in English and Hindi, expanded from Home Assistant's real sentence templates.

The package `home-assistant-intents` holds the templates that drive Home Assistant's voice
assistant; `hassil` parses them. A template's alternatives are sampled at random instead of being
enumerated, and the slots are followed through the expansion, so that a row carries an intent and
the exact character spans of its entities: one folder serves intent classification, entity
recognition and the joint task.

The split is by template, not by sentence: the wordings of the test set are not those of the
training set. An intent with fewer than `MIN_TEMPLATES` templates in a language cannot be split so
and is given to train only there.
"""

import importlib.metadata
import importlib.util
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from saarthi_lib.errors import ConfigError, DataError
from saarthi_lib.logs import get_logger

if TYPE_CHECKING:
    from hassil.expression import Expression

logger = get_logger("demo.home_assistant")

LANGUAGES = {"en": "english", "hi": "hindi"}
SPLITS = ("train", "validation", "test")
MIN_TEMPLATES = 5
SHARES = {"test": 0.22, "validation": 0.14}
PACKAGES = ("home-assistant-intents", "hassil")

# Sentences for each intent, at most; Hindi has fewer intents and so takes more of each.
ROWS: dict[str, dict[str, int]] = {
    "en": {"train": 34, "validation": 10, "test": 17},
    "hi": {"train": 62, "validation": 16, "test": 24},
}

# Values for the lists that the templates leave open. "name" is by the kind of device that a
# template asks for; "light_stem" is what may stand before a template's own word for a light. The
# last fifth of each list is kept out of train, so that evaluation meets names that are new. Hindi
# names that a postposition follows stand in the oblique case; its templates ask for no floor.
VALUES: dict[str, dict[str, list[str]]] = {
    "en": {
        "area": [
            *("kitchen", "living room", "bedroom", "dining room", "bathroom", "pooja room"),
            *("balcony", "study", "guest room", "hall", "kids room", "verandah"),
            *("store room", "courtyard", "master bedroom"),
        ],
        "floor": ["ground floor", "first floor", "second floor", "basement", "top floor"],
        "light": [
            *("tube light", "ceiling light", "night lamp", "table lamp", "reading lamp"),
            *("chandelier", "false ceiling light", "mirror light", "led strip", "corner lamp"),
        ],
        "light_stem": ["ceiling", "tube", "bedside", "mirror", "study", "fairy", "stair", "porch"],
        "fan": ["ceiling fan", "exhaust fan", "table fan", "pedestal fan", "wall fan"],
        "switch": ["geyser", "water motor", "mosquito repellent", "coffee maker", "air purifier"],
        "input_boolean": ["guest mode", "holiday mode", "night mode"],
        "climate": ["air conditioner", "ac", "thermostat", "room heater", "split ac"],
        "media_player": ["tv", "smart speaker", "home theatre", "sound bar", "set top box"],
        "cover": ["curtains", "window blinds", "garage door", "main gate", "rolling shutter"],
        "valve": ["water valve", "gas valve", "garden tap", "tank inlet"],
        "lock": ["front door", "back door", "almirah lock", "main door lock", "terrace door"],
        "weather": ["delhi", "mumbai", "pune", "jaipur", "lucknow", "indore"],
        "sensor": ["water tank level", "electricity meter", "humidity sensor", "inverter battery"],
        "binary_sensor": ["motion sensor", "door sensor", "window sensor", "parking sensor"],
        "person": ["rahul", "priya", "anita", "papa", "grandma", "vikram", "mummy"],
        "todo": ["grocery", "weekend", "school", "office", "wedding"],
        "lawn_mower": ["robo mower", "garden mower", "lawn robot"],
        "vacuum": ["robot vacuum", "rosie", "floor cleaner", "mop robot"],
        "button": ["doorbell", "panic", "restart router", "feed the fish"],
        "input_button": ["call lift", "bedside", "reset"],
        "scene": ["movie night", "dinner", "good morning", "diwali", "relax"],
        "script": ["bedtime routine", "leaving home", "morning aarti", "water plants"],
        "zone": ["home", "work", "school", "the gym", "the office"],
        "message": [
            *("dinner is ready", "we are leaving in five minutes", "the guests have arrived"),
            *("please come downstairs", "chai is on the table"),
        ],
        "search_query": [
            *("arijit singh", "lata mangeshkar", "old hindi songs", "jazz", "kishore kumar"),
            *("morning bhajans", "lo-fi beats", "a r rahman", "the news"),
        ],
        "timer_name": ["rice", "pasta", "laundry", "cooker", "egg", "homework", "yoga", "cake"],
        "timer_command": [
            *("turn off the lights", "open the curtains", "switch on the geyser", "lock the door"),
            *("stop the music", "turn on the fan", "close the blinds"),
        ],
        "shopping_list_item": [
            *("milk", "onions", "basmati rice", "bread", "green chillies", "ghee", "tea powder"),
            *("dish soap", "paneer", "toor dal"),
        ],
        "todo_list_item": [
            *("call the plumber", "pay the electricity bill", "bananas", "book train tickets"),
            *("return library books", "buy stamps"),
        ],
    },
    "hi": {
        "area": [
            *("रसोई", "बैठक", "शयनकक्ष", "बाथरूम", "पूजा घर", "बालकनी", "हॉल", "बरामदे"),
            *("बच्चों के कमरे", "मेहमान कक्ष", "किचन", "बेडरूम", "आंगन", "भंडार घर", "स्टडी रूम"),
        ],
        "light": [
            *("ट्यूब लाइट", "नाइट लैंप", "टेबल लैंप", "झूमर", "छत की लाइट", "शीशे की लाइट"),
            *("एलईडी पट्टी", "कोने का लैंप", "पढ़ाई का लैंप"),
        ],
        "light_stem": ["छत की", "सीढ़ी की", "बरामदे की", "मेज़ की", "पूजा घर की", "गेट की"],
        "fan": ["छत का पंखा", "टेबल फैन", "एग्जॉस्ट फैन", "दीवार का पंखा", "कूलर"],
        "switch": ["गीज़र", "पानी की मोटर", "एयर प्यूरीफायर", "मिक्सर", "वॉशिंग मशीन"],
        "input_boolean": ["नाइट मोड", "मेहमान मोड", "छुट्टी मोड"],
        "climate": ["एसी", "एयर कंडीशनर", "हीटर", "थर्मोस्टैट", "स्प्लिट एसी"],
        "media_player": ["टीवी", "स्पीकर", "होम थिएटर", "रेडियो", "साउंड बार"],
        "cover": ["परदे", "गैराज का दरवाज़ा", "मुख्य गेट", "शटर", "खिड़की"],
        "valve": ["पानी का वाल्व", "गैस का वाल्व", "बगीचे का नल", "टंकी का वाल्व"],
        "lock": ["मुख्य दरवाज़े", "पीछे के दरवाज़े", "अलमारी", "छत के दरवाज़े", "तिजोरी"],
        "weather": ["दिल्ली", "मुंबई", "पुणे", "जयपुर", "लखनऊ", "इंदौर"],
    },
}

# Numbers that people say, narrower than the templates' ranges.
NUMBERS = {
    "temperature": range(16, 31),
    "color_temperature": range(2000, 6600, 100),
    "timer_hours": range(1, 13),
    "timer_minutes": range(1, 61),
    "timer_seconds": range(5, 61),
    "percentage": range(5, 101, 5),
}
_SHARE_IN_WORDS = 0.3
_PUNCTUATION = tuple(",.?!;:।")


@dataclass(frozen=True)
class Template:
    """One sentence template; `domains` are the kinds of device that its `{name}` may be."""

    language: str
    intent: str
    text: str
    domains: tuple[str, ...]


@dataclass
class _Drawn:
    """The sentences drawn so far, with their split and intent, and how many were turned away."""

    seen: dict[str, tuple[str, str]] = field(default_factory=dict)
    of_earlier_split: int = 0
    of_other_intent: int = 0


def write_home_assistant(
    folder: Path,
    *,
    languages: Sequence[str] = ("en", "hi"),
    seed: int = 0,
    per_template: int = 10,
    rows: Mapping[str, Mapping[str, int]] = ROWS,
    transfer_rows: int = 3000,
) -> dict[str, Any]:
    """Write `train`, `validation`, `test` and `transfer.jsonl` and `source.json` into `folder`.

    A row is `{"text", "intent", "entities": [{"start", "end", "label"}], "lang"}` with character
    offsets, end exclusive; a transfer row has `text` and `lang` alone and is an expansion of a
    training template. The same arguments and packages give the same bytes. No sentence (case and
    white space aside) stands twice, in one split or in two.

    Args:
        folder: made when it is missing; files of these names are replaced.
        languages: codes out of `LANGUAGES`.
        seed: of the split and of every draw.
        per_template: how many sentences of a split a template gives, at most.
        rows: how many sentences a split takes for each intent, at most, by language and split.
        transfer_rows: unlabelled sentences, shared equally by the languages.

    Returns:
        The content of `source.json`: seed, package versions, counts.

    Raises:
        ConfigError: a language is not of `LANGUAGES`.
        DataError: the packages that hold the templates are not installed.
    """
    unknown = [language for language in languages if language not in LANGUAGES]
    if unknown or not languages:
        raise ConfigError(f"languages: {unknown} is not among {sorted(LANGUAGES)}")
    versions = _versions()
    rng = random.Random(seed)
    drawn = _Drawn()
    splits: dict[str, list[dict[str, Any]]] = {name: [] for name in (*SPLITS, "transfer")}
    templates: Counter[str] = Counter()
    train_only: list[str] = []
    for language in languages:
        sampler = _Sampler(language, rng)
        parts, few = _split_templates(sampler.templates(), rng)
        train_only += few
        for split in SPLITS:
            templates[f"{split}_{LANGUAGES[language]}"] = len(parts[split])
            for group in _by_intent(parts[split]):
                splits[split] += _draw(
                    sampler, group, split, per_template, rows[language][split], drawn
                )
        share = transfer_rows // len(languages)
        splits["transfer"] += [
            {"text": row["text"], "lang": row["lang"]}
            for row in _draw(sampler, parts["train"], "transfer", share, share, drawn)
        ]
    worded = {_wording(row) for row in splits["train"]}
    source = {
        "what": "Home Assistant's sentence templates, expanded; the split is by template",
        "licence": "CC-BY-4.0 (home-assistant-intents)",
        "packages": versions,
        "seed": seed,
        "rows": {name: _counts(part) for name, part in splits.items()},
        "templates": dict(templates),
        "intents": {name: _intents(splits[name]) for name in SPLITS},
        "entities": dict(Counter(e["label"] for row in splits["train"] for e in row["entities"])),
        "train_only_below_templates": MIN_TEMPLATES,
        "train_only": train_only,
        "dropped_of_earlier_split": drawn.of_earlier_split,
        "dropped_of_other_intent": drawn.of_other_intent,
        "test_rows_worded_as_in_train": sum(_wording(row) in worded for row in splits["test"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in splits.items():
        rng.shuffle(part)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    text = json.dumps(source, ensure_ascii=False, indent=1) + "\n"
    (folder / "source.json").write_text(text, encoding="utf-8")
    logger.info("wrote %s: %s", folder, {name: len(part) for name, part in splits.items()})
    return source


def _versions() -> dict[str, str]:
    try:
        return {package: importlib.metadata.version(package) for package in PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError(
            f"the demonstration data needs the package {error.name}: pip install 'saarthi[demo]'"
        ) from error


def _split_templates(
    templates: Iterable[Template], rng: random.Random
) -> tuple[dict[str, list[Template]], list[str]]:
    """Give each template to one split, stratified by intent; name the intents for train only."""
    parts: dict[str, list[Template]] = {split: [] for split in SPLITS}
    few = []
    for group in _by_intent(templates):
        rng.shuffle(group)
        held_out = 0
        if len(group) < MIN_TEMPLATES:
            few.append(f"{LANGUAGES[group[0].language]} {group[0].intent}")
        else:
            for split, share in SHARES.items():
                count = max(1, round(share * len(group)))
                parts[split] += group[held_out : held_out + count]
                held_out += count
        parts["train"] += group[held_out:]
    return parts, few


def _by_intent(templates: Iterable[Template]) -> list[list[Template]]:
    groups: dict[str, list[Template]] = defaultdict(list)
    for template in templates:
        groups[template.intent].append(template)
    return list(groups.values())


def _draw(
    sampler: "_Sampler",
    templates: list[Template],
    split: str,
    per_template: int,
    rows: int,
    drawn: _Drawn,
) -> list[dict[str, Any]]:
    """Draw up to `rows` new sentences, from each template in turn and then again."""
    found: list[dict[str, Any]] = []
    taken: Counter[str] = Counter()
    # A template with few expansions soon gives only sentences that were there before.
    for _ in range(3 * per_template):
        for template in templates:
            if len(found) == rows:
                return found
            if taken[template.text] == per_template:
                continue
            row = sampler.row(template, new_names=split in SHARES)
            key = " ".join(row["text"].casefold().split())
            if key in drawn.seen:
                earlier_split, earlier_intent = drawn.seen[key]
                drawn.of_earlier_split += split in SHARES and earlier_split != split
                drawn.of_other_intent += split in SPLITS and earlier_intent != template.intent
                continue
            drawn.seen[key] = (split, template.intent)
            taken[template.text] += 1
            found.append(row)
    return found


class _Sampler:
    """Expands one language's templates at random."""

    def __init__(self, language: str, rng: random.Random) -> None:
        spec = importlib.util.find_spec("home_assistant_intents")
        assert spec is not None and spec.origin is not None  # _versions has seen the package
        path = Path(spec.origin).parent / "data" / f"{language}.json"
        self._data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self._language = language
        self._rng = rng
        self._parsed: dict[str, Expression] = {}

    def templates(self) -> Iterator[Template]:
        """Yield each template once: a text that stands under several domains has all of them."""
        for intent, content in self._data["intents"].items():
            domains: dict[str, list[str]] = {}
            for block in content["data"]:
                for text in block["sentences"]:
                    wanted = block.get("requires_context", {}).get("domain", [])
                    domains[text] = [*domains.get(text, []), *wanted]
            for text, wanted in domains.items():
                yield Template(self._language, intent, text, tuple(dict.fromkeys(wanted)))

    def row(self, template: Template, new_names: bool) -> dict[str, Any]:
        """Expand a template into a row."""
        pieces = self._expand(self._parse(template.text), template, new_names)
        text, entities = _join(pieces)
        return {
            "text": text,
            "intent": template.intent,
            "entities": entities,
            "lang": LANGUAGES[template.language],
        }

    def _parse(self, text: str) -> "Expression":
        from hassil.parse_expression import parse_sentence

        if text not in self._parsed:
            self._parsed[text] = parse_sentence(text).expression
        return self._parsed[text]

    def _expand(
        self, expression: "Expression", template: Template, new_names: bool
    ) -> list[tuple[str, str | None]]:
        """Return the sentence in pieces: text and, where it fills a slot, the slot's name."""
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
        return [piece for item in items for piece in self._expand(item, template, new_names)]

    def _value(self, list_name: str, template: Template, new_names: bool) -> str:
        content = self._data["lists"].get(list_name, {})
        if "values" in content:
            value = self._rng.choice(content["values"])
            return _join(self._expand(self._parse(value["in"]), template, new_names))[0]
        if "range" in content:
            return self._number(list_name, content["range"])
        ours = VALUES[self._language]
        if list_name == "name":
            list_name = self._rng.choice([d for d in template.domains if d in ours])
            if "{name} <light>" in template.text:
                list_name = "light_stem"
        values = ours[list_name]
        return self._rng.choice(values if new_names else values[: len(values) - len(values) // 5])

    def _number(self, list_name: str, limits: dict[str, Any]) -> str:
        number = self._rng.choice(NUMBERS.get(list_name) or NUMBERS[limits["type"]])
        # "forty two%" and "three thousand k" are not said; hours, minutes and seconds are.
        if list_name.startswith("timer") and self._rng.random() < _SHARE_IN_WORDS:
            from hassil.numbers import get_rbnf_engine

            return get_rbnf_engine(self._language).format_number(number).text
        return str(number)


def _join(pieces: Iterable[tuple[str, str | None]]) -> tuple[str, list[dict[str, Any]]]:
    """Join pieces into a sentence, spaced as people write, with the spans of its slots."""
    text = ""
    entities: list[dict[str, Any]] = []
    for raw, label in pieces:
        piece = re.sub(r"\s+", " ", raw)
        if not text or text.endswith(" "):
            piece = piece.lstrip()
        after_slot = bool(entities) and len(text.rstrip()) == entities[-1]["end"]
        if after_slot and label is None:
            # "first floor" before a template's own "[floor]".
            last_word = text.split()[-1]
            piece = re.sub(rf"^{re.escape(last_word)}\b", "", piece)
            if piece and piece[0].isalpha() and not text.endswith(" "):
                piece = f" {piece}"  # 4000k: the slot is a word of its own
        if piece.startswith(_PUNCTUATION):
            text = text.rstrip()
        if label is not None:
            entities.append({"start": len(text), "end": len(text) + len(piece), "label": label})
        text += piece
    return text.rstrip(), entities


def _wording(row: dict[str, Any]) -> str:
    """Return the sentence with each slot's value replaced by the slot's name."""
    text: str = row["text"]
    for entity in reversed(row["entities"]):
        text = f"{text[: entity['start']]}{{{entity['label']}}}{text[entity['end'] :]}"
    return text


def _counts(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    by_language = Counter(row["lang"] for row in rows)
    return {"total": by_language.total(), **by_language}


def _intents(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row["lang"]][row["intent"]] += 1
    return {language: dict(intents) for language, intents in counts.items()}
