"""Detect the language of rows if neither the file nor the configuration gives it.

A script of one language decides alone. Languages that share Latin, Devanagari, Bengali, Arabic,
Cyrillic or Chinese characters are separated by function words, word endings or letters. Rows
without such evidence ("EMI", "ok", "50%") take the most frequent language of their script in train.
Text in other scripts, and longer text that resembles no known language, stays "unknown".
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from saarthi_lib.logs import get_logger
from saarthi_lib.text.language_names import UNKNOWN_LANGUAGE
from saarthi_lib.text.scripts import script_of

logger = get_logger("data")

LEAST_FREQUENT = 0.01  # share of a script's evident training rows that make a language frequent
LEAST_ROWS = 5  # of all splits; languages with fewer rows and a lower share are noise
LEAST_EVIDENT = 0.2  # share of a script's training rows that must show a known language
FEW_FOREIGN = 2 / 3  # least share of evident rows among evident and foreign ones; fewer are strict
SEVERAL = 3  # words of a row that should show its language
OTHER = "other"  # scripts and languages that are not supported
ROWS_LEARNT = 50_000  # most training rows for counting languages

# Languages of scripts that no other language here uses.
_ONLY = {
    "gurmukhi": "punjabi", "gujarati": "gujarati", "odia": "odia", "tamil": "tamil",
    "telugu": "telugu", "kannada": "kannada", "malayalam": "malayalam", "sinhala": "sinhala",
    "meetei": "manipuri", "ol": "santali", "hangul": "korean",
}  # fmt: skip
SCRIPTS = {*_ONLY, "latin", "devanagari", "bengali", "arabic", "cyrillic", "cjk"}
# Texts of every script contain Latin letters: a share of 20% of other letters outweighs them.
_LATIN_SHARE = 0.2

# Letters that only one language of a script has, and letters or words of related languages.
_LETTERS = {
    "bengali": (("assamese", "[ৰৱ]"), ("bengali", "র")),
    "arabic": (
        ("sindhi", "[ٻٺٽڦڄڃڇڌڏڊڍڙڪڳڱڻ]"),
        ("urdu", "[ٹڈڑںےہھۓ]"),
        ("arabic", r"[ةإى]|\b(?:في|من|على|هذا|هذه|هل|ما|لا|كل|كيف|عن|مع|هو|هي)\b|\bال\w{2}"),
    ),
    "cyrillic": (("", "[іїєґўјљњћђѓќ]"), ("russian", r"[ыэё]|\b(?:и|не|что|как|это|мне|вы)\b")),
    "cjk": (("japanese", "[ぁ-ヿ]"), ("chinese", "[的了是在我不吗请这你么们]")),
}

_POINTS = {"hinglish": 6.0}  # of a sure word, since Hinglish contains English words too
_LATIN_WORD = re.compile(r"[a-zA-Z\u00c0-\u024f\u1e00-\u1eff]+")
_DEVANAGARI_WORD = re.compile(r"[\u0900-\u0963\u0966-\u097f]+")
# Least points of a language, of other Latin languages, and per word, which matters in long texts.
_LEAST_POINTS = {"english": 2.0, "hinglish": 4.0, "hindi": 1.0, "marathi": 1.0, "nepali": 1.0}
_LEAST_OF_OTHERS = 4.0
_A_WORD = 0.2


class Evidence(NamedTuple):
    """Evidence of a text's language.

    Attributes:
        script: script of most letters; "" without letters, "other" if not supported.
        language: language of the text, or "".
        sure: whether the evidence is strong.
        words: number of words.
        touched: languages with at least one word of the text.
    """

    script: str
    language: str = ""
    sure: bool = True
    words: int = 0
    touched: frozenset[str] = frozenset()


def evidence(text: str) -> Evidence:
    """Script and language of one text, judged alone."""
    script = _script(text)
    if script in _ONLY:
        return Evidence(script, _ONLY[script])
    if script == "latin":
        return _by_words(script, _LATIN_WORD.findall(text.lower()))
    if script == "devanagari":
        return _by_words(script, _DEVANAGARI_WORD.findall(text))
    for language, letters in _LETTERS.get(script, ()):
        if re.search(letters, text):
            return Evidence(script, language) if language else Evidence(OTHER)
    return Evidence(script, words=len(text.split()))


@dataclass(frozen=True)
class Languages:
    """Languages of a training table, for rows of any split without a language.

    Attributes:
        usual: most frequent language by script; the key "" covers all scripts.
        choices: languages that may be detected in a script, if train limits them.
        frequent: frequent languages of a script; others need more evidence.
        noise: languages with too few rows; such rows take the most frequent language.
        strict: scripts with text in other languages; rows of several words without a word of the
            most frequent language stay "unknown".
    """

    usual: Mapping[str, str]
    choices: Mapping[str, frozenset[str]]
    frequent: Mapping[str, frozenset[str]]
    noise: frozenset[str] = frozenset()
    strict: frozenset[str] = frozenset()

    @classmethod
    def of(cls, train: pd.DataFrame) -> "Languages":
        """Count the given and detected languages of the training rows, by script.

        If train gives the language of most rows of a script, only given languages are detected in
        it. If few rows of a script show a known language, its rows stay "unknown". If many of its
        rows resemble no known language, the script is strict.
        """
        rows = train.iloc[:: 1 + len(train) // ROWS_LEARNT]
        given: defaultdict[str, Counter[str]] = defaultdict(Counter)
        shown: defaultdict[str, Counter[str]] = defaultdict(Counter)
        unclear: defaultdict[str, Counter[frozenset[str]]] = defaultdict(Counter)
        for text, lang in zip(rows["text"], rows["lang"], strict=True):
            found = evidence(text)
            if lang != UNKNOWN_LANGUAGE:
                given[found.script][lang] += 1
                continue
            shown[found.script][found.language] += 1
            if found.script == OTHER or (not found.language and found.words >= SEVERAL):
                unclear[found.script][found.touched] += 1
        choices: dict[str, frozenset[str]] = {}
        frequent: dict[str, frozenset[str]] = {}
        usual: dict[str, str] = {}
        every: Counter[str] = Counter()
        strict: set[str] = set()
        foreign: Counter[str] = Counter()  # rows without a word of the usual language, by script
        for script in sorted({*given, *shown}):
            named, seen = given[script], shown[script]
            evident = Counter({language: n for language, n in seen.items() if language})
            if named.total() >= seen.total():
                choices[script] = frozenset(named)
            elif script and evident.total() < LEAST_EVIDENT * seen.total():
                choices[script] = frozenset()
            allowed = choices.get(script, frozenset(evident))
            known = named + Counter({k: n for k, n in evident.items() if k in allowed})
            every += known
            least = LEAST_FREQUENT * known.total()
            frequent[script] = frozenset(language for language, n in known.items() if n >= least)
            if known:
                usual[script] = known.most_common(1)[0][0]
            foreign[script] = sum(
                n for touched, n in unclear[script].items() if usual.get(script) not in touched
            )
            few = known.total() >= FEW_FOREIGN * (known.total() + foreign[script])
            if not few and named.total() < seen.total():
                strict.add(script)
        if 2 * every.total() >= every.total() + foreign.total() and every:
            usual[""] = every.most_common(1)[0][0]
            # Acronyms and names ("EMI") occur in every language.
            if "latin" not in usual and 2 * foreign["latin"] <= shown["latin"].total():
                usual["latin"] = usual[""]
                strict.add("latin")
        return cls(usual, choices, frequent, strict=frozenset(strict))

    def name(self, text: str) -> str:
        """Language of a text; "unknown" without evidence in the text or in train."""
        script, language, sure, words, touched = evidence(text)
        if script == OTHER:
            return UNKNOWN_LANGUAGE
        allowed = self.choices.get(script, (language,))
        plausible = sure or language in self.frequent.get(script, allowed)
        trusted = plausible and language in allowed and language not in self.noise
        if language and trusted:
            return language
        usual = self.usual.get(script, UNKNOWN_LANGUAGE)
        foreign = script in self.strict and words >= SEVERAL and usual not in touched
        return UNKNOWN_LANGUAGE if foreign else usual

    def fill(self, table: pd.DataFrame) -> tuple[pd.DataFrame, Counter[str]]:
        """Name the languages of the rows that lack one.

        Returns:
            The table, and the number of the named rows by language.
        """
        lacking = (table["lang"] == UNKNOWN_LANGUAGE).to_numpy(bool)
        if not lacking.any():
            return table, Counter()
        names = table["lang"].to_numpy(object).copy()
        names[lacking] = [self.name(text) for text in table["text"][lacking]]
        lang = pd.Series(names, table.index, dtype=table["lang"].dtype)
        return table.assign(lang=lang), Counter(names[lacking].tolist())


def name_languages(
    tables: Mapping[str, pd.DataFrame],
) -> tuple[dict[str, pd.DataFrame], Languages]:
    """Name the languages of all rows that lack one, by those of train, and log the counts.

    Args:
        tables: a table for each split; `train` is required.

    Returns:
        The tables, and the languages, for later rows.
    """
    languages = Languages.of(tables["train"])
    named, counts = _filled(tables, languages)
    least = min(LEAST_ROWS, LEAST_FREQUENT * counts.total())
    if noise := frozenset(language for language, n in counts.items() if n < least):
        languages = replace(languages, noise=noise)
        named, counts = _filled(tables, languages)
    if counts:
        told = ", ".join(f"{language} {count}" for language, count in counts.most_common())
        logger.info("languages detected: %s (set language or language_column to correct)", told)
    return named, languages


def _filled(
    tables: Mapping[str, pd.DataFrame], languages: Languages
) -> tuple[dict[str, pd.DataFrame], Counter[str]]:
    filled = {split: languages.fill(table) for split, table in tables.items()}
    counts: Counter[str] = Counter()
    for _, found in filled.values():
        counts += found
    return {split: table for split, (table, _) in filled.items()}, counts


def _script(text: str) -> str:
    if text.isascii():
        return "latin" if any(map(str.isalpha, text)) else ""
    counts = Counter(map(_script_of, text))
    del counts[""]
    latin = counts.pop("latin", 0)
    if not counts:
        return "latin" if latin else ""
    script, letters = counts.most_common(1)[0]
    return str(script) if letters >= _LATIN_SHARE * (letters + latin) else "latin"


@lru_cache(maxsize=2**12)
def _script_of(character: str) -> str:
    script = script_of(character)
    if script in SCRIPTS:
        return script
    return OTHER if character.isalpha() else ""


def _by_words(script: str, words: Sequence[str]) -> Evidence:
    """Evidence for the language with the most points, if these suffice and it leads alone.

    It is sure with more than twice the least points.
    """
    points: defaultdict[str, float] = defaultdict(float)
    for word in words:
        for language, value in _points(script, word).items():
            points[language] += value
    nothing = Evidence(script, "", False, len(words), frozenset(points))
    most = max(points.values(), default=0.0)
    leaders = [language for language, value in points.items() if value == most]
    if len(leaders) != 1:
        return nothing
    [best] = leaders
    least = max(_LEAST_POINTS.get(best, _LEAST_OF_OTHERS), _A_WORD * len(words))
    if most < least:
        return nothing
    return nothing._replace(language=best, sure=most > 2 * least)


@lru_cache(maxsize=2**16)
def _points(script: str, word: str) -> dict[str, float]:
    """Points of a word by language."""
    words, endings = _word_lists()[script]
    points = dict(words.get(word, {}))
    for language, ends in endings.items() if len(word) > 4 else ():
        if word.endswith(ends):
            points.setdefault(language, 1.0)
    return points


@lru_cache(maxsize=1)
def _word_lists() -> dict[str, tuple[dict[str, dict[str, float]], dict[str, tuple[str, ...]]]]:
    """For each script, points of words by language, and word endings of languages."""
    file = Path(__file__).with_name("languages.yaml")
    lists: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    found = {}
    for script, languages in lists.items():
        points: dict[str, dict[str, float]] = {}
        endings: dict[str, tuple[str, ...]] = {}
        for language, words in languages.items():
            for word in words.get("shared", "").split():
                points.setdefault(word, {})[language] = 0.5
            for word in words["sure"].split():
                points.setdefault(word, {})[language] = _POINTS.get(language, 2.0)
            endings[language] = tuple(words.get("endings", "").split())
        found[script] = points, endings
    return found
