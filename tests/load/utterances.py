"""Utterances of the load test, mixed by language and length."""

import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from saarthi_lib.errors import ConfigError, DataError

# Most words of an utterance of each length.
LENGTHS = {"short": 4, "medium": 8, "long": 10_000}
DEMO_ROWS = 4000


@dataclass(frozen=True, slots=True)
class Utterance:
    """A text and its language, if known."""

    text: str
    lang: str | None

    @property
    def length(self) -> str:
        """One of `LENGTHS`."""
        words = len(self.text.split())
        return next(name for name, most in LENGTHS.items() if words <= most)


def demo_utterances() -> list[Utterance]:
    """Home Assistant's utterances in English and Hindi, the same in each run.

    Raises:
        DataError: the packages of the demonstration data are not installed.
    """
    from saarthi_lib.demo.home_assistant import SPLITS, write_home_assistant
    from saarthi_lib.demo.templates import LANGUAGES

    rows = {language: dict.fromkeys(SPLITS, 1) for language in LANGUAGES}
    with tempfile.TemporaryDirectory() as folder:
        write_home_assistant(Path(folder), rows=rows, transfer_rows=DEMO_ROWS)
        return read_utterances(Path(folder) / "transfer.jsonl")


def read_utterances(file: Path) -> list[Utterance]:
    """Read JSON lines with `text` and an optional `lang`.

    Raises:
        DataError: the file cannot be read, or a line lacks a text.
    """
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [Utterance(row["text"], row.get("lang")) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file}: cannot be read as JSON lines with a text in each "
            f"({type(error).__name__}: {error})"
        ) from error


def read_weights(text: str) -> dict[str, float]:
    """Read `english=3,hindi=1`; a name alone weighs 1.

    Raises:
        ConfigError: a weight is not a number above 0.
    """
    weights = {}
    for part in filter(None, text.split(",")):
        name, _, weight = part.partition("=")
        try:
            weights[name.strip()] = float(weight or 1)
        except ValueError as error:
            raise ConfigError(f"{part!r}: write NAME=WEIGHT, such as english=3") from error
        if weights[name.strip()] <= 0:
            raise ConfigError(f"{part!r}: a weight must be above 0; leave out unwanted names")
    return weights


class Mix:
    """Draws utterances at random.

    Args:
        utterances: utterances to draw from; those of one language and length are equally likely.
        languages: weights; empty: all languages, equally.
        lengths: weights of `LENGTHS`; empty: the lengths of the utterances.

    Raises:
        ConfigError: a requested language or length is missing among the utterances.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        languages: Mapping[str, float],
        lengths: Mapping[str, float],
    ) -> None:
        cells: dict[tuple[str, str], list[Utterance]] = defaultdict(list)
        for utterance in utterances:
            cells[utterance.lang or "", utterance.length if lengths else ""].append(utterance)
        languages = languages or {language: 1.0 for language, _ in cells}
        lengths = lengths or {"": 1.0}
        for asked, place in ((languages, 0), (lengths, 1)):
            there = {cell[place] for cell in cells}
            if missing := sorted(set(asked) - there):
                raise ConfigError(
                    f"no utterances are {', '.join(missing)}; available: {', '.join(sorted(there))}"
                )
        chosen = [cell for cell in cells if cell[0] in languages and cell[1] in lengths]
        self._cells = [cells[cell] for cell in chosen]
        self._weights = list(accumulate(languages[a] * lengths[b] for a, b in chosen))

    def draw(self, count: int = 1) -> list[Utterance]:
        """Draw this many utterances."""
        cells = random.choices(self._cells, cum_weights=self._weights, k=count)
        return [random.choice(cell) for cell in cells]
