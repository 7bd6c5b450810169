"""Demonstration data in English and Hindi, expanded from Home Assistant's real sentence templates.

The package `home-assistant-intents` holds the templates that drive Home Assistant's voice
assistant; `hassil` parses them. A template's alternatives are sampled at random instead of being
enumerated. The slots are followed through the expansion, so that a row has an intent and the exact
character spans of its entities: one folder serves intent classification, entity recognition and
the joint task.

The split is by template, not by sentence, so test and train have different wordings. An intent
with fewer than `MIN_TEMPLATES` templates in a language is only in that language's train.
"""

import importlib.metadata
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from saarthi_lib.demo.templates import LANGUAGES, Row, Sampler, Template
from saarthi_lib.errors import ConfigError, DataError
from saarthi_lib.logs import get_logger

logger = get_logger("demo.home_assistant")

SPLITS = ("train", "validation", "test")
MIN_TEMPLATES = 5
SHARES = {"test": 0.22, "validation": 0.14}
PACKAGES = ("home-assistant-intents", "hassil")

# Most sentences of each intent. Hindi has fewer intents, and therefore more sentences of each.
ROWS: dict[str, dict[str, int]] = {
    "en": {"train": 34, "validation": 10, "test": 17},
    "hi": {"train": 62, "validation": 16, "test": 24},
}


class Source(TypedDict):
    """Content of `source.json`: where the data come from, and the rows by split and language."""

    what: str
    licence: str
    packages: dict[str, str]
    seed: int
    rows: dict[str, dict[str, int]]
    train_only: list[str]


def write_home_assistant(
    folder: Path,
    *,
    languages: Sequence[str] = ("en", "hi"),
    seed: int = 0,
    per_template: int = 10,
    rows: Mapping[str, Mapping[str, int]] = ROWS,
    transfer_rows: int = 3000,
) -> Source:
    """Write `train`, `validation`, `test` and `transfer.jsonl` and `source.json` into `folder`.

    A row is `{"text", "intent", "entities": [{"start", "end", "label"}], "lang"}` with character
    offsets, end exclusive. A transfer row has only `text` and `lang`, and expands a training
    template. The same arguments and packages give the same bytes. All sentences differ in more
    than case and spaces, also between splits.

    Args:
        folder: output folder; files of these names are replaced.
        languages: codes in `LANGUAGES`.
        seed: seed of the split and of the sentences.
        per_template: most sentences of a split from one template.
        rows: most sentences of each intent, by language and split.
        transfer_rows: unlabelled sentences, in equal shares of the languages.

    Raises:
        ConfigError: a language is not in `LANGUAGES`.
        DataError: the packages that hold the templates are not installed.
    """
    unknown = [language for language in languages if language not in LANGUAGES]
    if unknown or not languages:
        raise ConfigError(f"languages: {unknown} is not among {sorted(LANGUAGES)}")
    versions = _versions()
    rng = random.Random(seed)
    seen: set[str] = set()
    splits: dict[str, list[Row]] = {name: [] for name in (*SPLITS, "transfer")}
    train_only: list[str] = []
    for language in languages:
        sampler = Sampler(language, rng)
        parts, few = _split_templates(sampler.templates(), rng)
        train_only += few
        for split in SPLITS:
            for group in _by_intent(parts[split]):
                most = rows[language][split]
                splits[split] += _draw(sampler, group, split in SHARES, per_template, most, seen)
        share = transfer_rows // len(languages)
        splits["transfer"] += _draw(sampler, parts["train"], False, share, share, seen)
    source: Source = {
        "what": "Home Assistant's sentence templates, expanded; the split is by template",
        "licence": "CC-BY-4.0 (home-assistant-intents)",
        "packages": versions,
        "seed": seed,
        "rows": {name: _counts(part) for name, part in splits.items()},
        "train_only": train_only,
    }
    _write(folder, splits, source, rng)
    return source


def _write(
    folder: Path, splits: Mapping[str, list[Row]], source: Source, rng: random.Random
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in splits.items():
        rng.shuffle(part)
        lines = (
            {"text": row["text"], "lang": row["lang"]} if name == "transfer" else row
            for row in part
        )
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    text = json.dumps(source, ensure_ascii=False, indent=1) + "\n"
    (folder / "source.json").write_text(text, encoding="utf-8")
    logger.info("wrote %s: %s", folder, {name: len(part) for name, part in splits.items()})


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
    sampler: Sampler,
    templates: list[Template],
    new_names: bool,
    per_template: int,
    rows: int,
    seen: set[str],
) -> list[Row]:
    """Draw up to `rows` new sentences, from each template in turn and then again."""
    found: list[Row] = []
    taken: Counter[str] = Counter()
    # Bounded, because a template with few expansions soon repeats itself.
    for _ in range(3 * per_template):
        for template in templates:
            if len(found) == rows:
                return found
            if taken[template.text] == per_template:
                continue
            row = sampler.row(template, new_names)
            key = " ".join(row["text"].casefold().split())
            if key not in seen:
                seen.add(key)
                taken[template.text] += 1
                found.append(row)
    return found


def _counts(rows: Iterable[Row]) -> dict[str, int]:
    by_language = Counter(row["lang"] for row in rows)
    return {"total": by_language.total(), **by_language}
