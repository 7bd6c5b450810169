"""Reading of an export: the user's choices, and a report of the parts that are not carried over."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saarthi_lib.data.formats.columns import Columns, Fault, RawRow

PLACES = 20  # most places listed for each kind of part
UNFIT = "bad-export"  # kind of fault: a row that cannot be taken over
MOST_SYNONYMS = 100_000


@dataclass
class Reading:
    """Reads one export.

    Attributes:
        columns: names given by the user, where an export has several fields.
        all_answers: whether rows count that an annotator did not accept (Prodigy).
        left: number of parts that are not carried over, by kind.
        places: first places of these parts, by kind: file, and place in the file.
        synonyms: the value for each synonym.
    """

    columns: Columns = field(default_factory=Columns)
    all_answers: bool = False
    left: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[tuple[Path, str]]] = field(default_factory=dict)
    synonyms: dict[str, str] = field(default_factory=dict)

    def leave(self, kind: str, path: Path, place: object = "", count: int = 1) -> None:
        """Count parts that are not carried over.

        Args:
            kind: the kind of part, such as "regex".
            path: its file.
            place: its place in the file; a number is a row.
            count: number of parts.
        """
        if not count:
            return
        self.left[kind] += count
        places = self.places.setdefault(kind, [])
        if len(places) < PLACES:
            places.append((path, f"row {place}" if isinstance(place, int) else str(place)))

    def synonym(self, value: object, synonym: object, path: Path, place: object = "") -> None:
        """Keep a synonym of a value; a second value for it is counted and not kept."""
        value, synonym = str(value).strip(), str(synonym).strip()
        if not value or not synonym or value == synonym:
            return
        known = self.synonyms.setdefault(synonym, value)
        if known != value:
            shown = f"row {place}" if isinstance(place, int) else str(place)
            self.leave("second value of a synonym", path, f"{shown} ({synonym})".lstrip())
        elif len(self.synonyms) > MOST_SYNONYMS:
            del self.synonyms[synonym]
            self.leave(f"synonyms beyond {MOST_SYNONYMS}", path, place)


def example(
    row: int,
    text: Any,
    label: Any = None,
    lang: Any = None,
    entities: list[dict[str, Any]] | None = None,
    split: str = "",
) -> RawRow:
    """A row with a text, a label and entities."""
    return RawRow(row, text, label, lang, tags=entities or [], split=split)


def unfit(row: int, message: str, split: str = "") -> RawRow:
    """A row that cannot be taken over; the message says why, and what to do."""
    return RawRow(row, faults=(Fault(row, UNFIT, message),), split=split)
