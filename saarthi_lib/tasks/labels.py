"""Labels of a task, and the costs that the training rows give to their combinations."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saarthi_lib.errors import BundleError
from saarthi_lib.json_text import parse_json
from saarthi_lib.tasks.bounds import LabelBounds
from saarthi_lib.tasks.heads import HEADS, OUT_OF_SCOPE
from saarthi_lib.tasks.paths import PathSearch


@dataclass(frozen=True)
class Labels:
    """Label names of each head, in the order of the head's columns; empty for a missing head.

    Attributes:
        sequence: labels of a text.
        token: tags of a word.
        slots: for each of the `answers`, the entities in its training rows; empty if unknown or if
            the task has one head.
        rows: for each of the `answers`, the number of its training rows.
        following: for each BIO tag, the tags of the next words in the training rows, with their
            counts; empty if unknown.
    """

    sequence: tuple[str, ...] = ()
    token: tuple[str, ...] = ()
    slots: tuple[tuple[str, ...], ...] = ()
    rows: tuple[int, ...] = ()
    following: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def answers(self) -> tuple[str, ...]:
        """Possible answers: all labels of a text except `OUT_OF_SCOPE`."""
        return self.sequence[:-1] if self.sequence[-1:] == (OUT_OF_SCOPE,) else self.sequence

    def abstaining(self) -> "Labels":
        """Return the same labels with the class `OUT_OF_SCOPE`."""
        return replace(self, sequence=(*self.answers, OUT_OF_SCOPE))

    @cached_property
    def unseen(self) -> npt.NDArray[np.float32] | None:
        """Costs of entities that do not occur with the text's label in the training rows.

        The cost is the log-probability of an event that n rows have not shown, by the rule of
        succession: -log(n + 2).

        Returns:
            [labels, tags], zero for pairs that occur; None if `slots` is empty.
        """
        if not self.slots:
            return None
        costs = np.zeros((len(self.sequence), len(self.token)), np.float32)
        for row, (kinds, count) in enumerate(zip(self.slots, self.rows, strict=True)):
            for column, tag in enumerate(self.token):
                if tag.startswith("B-") and tag[2:] not in kinds:
                    costs[row, column] = -np.log(count + 2)
        return costs

    @cached_property
    def transitions(self) -> npt.NDArray[np.float32]:
        """Tag transition costs; infinite where invalid.

        The cost is half of a negative pointwise mutual information of two successive tags (Church
        and Hanks 1990). A network that tags word by word knows the neighboring tags only in part.
        Smoothing adds one transition from each tag, drawn from all tags.

        Returns:
            [tags + 1, tags], at most zero; the last row has the costs of the first word's tag.
        """
        place = {tag: index for index, tag in enumerate(self.token)}
        counts = np.zeros((len(self.token) + 1, len(self.token)))
        for tag, after in self.following.items():
            for next_tag, count in after.items():
                counts[place[tag], place[next_tag]] = count
        share = counts.sum(axis=0) + 1
        share /= share.sum()
        lift = (counts / share + 1) / (counts.sum(axis=1, keepdims=True) + 1)
        costs = 0.5 * np.log(np.minimum(lift, 1.0))
        for index, tag in enumerate(self.token):
            if tag.startswith("I-"):
                before = [place.get(f"{half}{tag[1:]}", index) for half in "BI"]
                valid = costs[before, index]
                costs[:, index] = -np.inf
                costs[before, index] = valid
        return costs.astype(np.float32)

    @cached_property
    def path_search(self) -> PathSearch:
        """Search for the best tags of a text."""
        return PathSearch(self.token, self.transitions)

    @cached_property
    def bounds(self) -> LabelBounds:
        """Upper bounds of the scores of labels with any tags."""
        return LabelBounds(self.token, self.slots, self.rows, len(self.sequence))

    @classmethod
    def load(cls, path: str | Path) -> "Labels":
        """Read `labels.json`.

        Raises:
            BundleError: the file cannot be read or does not hold labels.
        """
        try:
            return cls.parse(Path(path).read_bytes(), path)
        except OSError as error:
            raise BundleError(
                f"{path}: cannot be read as labels ({error}); write the bundle again"
            ) from error

    @classmethod
    def parse(cls, content: bytes, path: str | Path) -> "Labels":
        """Read the content of a `labels.json`; errors name `path`.

        Raises:
            BundleError: it does not hold labels.
        """

        def require(valid: bool, message: str) -> None:
            if not valid:
                raise BundleError(f"{path}: {message}; write the bundle again")

        try:
            parsed = parse_json(content)
            heads = {head: parsed[head] for head in ("sequence", "token")}
            slots, rows = parsed.get("slots", []), parsed.get("rows", [])
            following = parsed.get("following", {})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(
                f"{path}: cannot be read as labels ({error}); write the bundle again"
            ) from error
        for head, names in heads.items():
            require(_are_strings(names), f"{head!r} must be a list of strings")
        labels = cls(tuple(heads["sequence"]), tuple(heads["token"]), following=following)
        require(_are_counts_of(following, labels.token), "'following' must count tags for each tag")
        if slots == rows == []:
            return labels
        answers = len(labels.answers)
        require(
            isinstance(slots, list) and len(slots) == answers and all(map(_are_strings, slots)),
            "'slots' must be a list of strings for each label",
        )
        require(
            isinstance(rows, list) and len(rows) == answers and _are_counts(rows),
            "'rows' must be a count for each label",
        )
        return replace(labels, slots=tuple(map(tuple, slots)), rows=tuple(rows))

    def save(self, path: str | Path) -> None:
        """Write `labels.json`."""
        content = {
            name: value for name, value in asdict(self).items() if value or name in HEADS["joint"]
        }
        text = json.dumps(content, ensure_ascii=False, indent=2)
        Path(path).write_text(text + "\n", encoding="utf-8")


def _are_strings(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _are_counts(numbers: Iterable[object]) -> bool:
    return all(type(number) is int and 0 <= number < 2**53 for number in numbers)


def _are_counts_of(following: object, tags: Sequence[str]) -> bool:
    known = set(tags)
    return isinstance(following, dict) and all(
        tag in known
        and isinstance(after, dict)
        and known.issuperset(after)
        and _are_counts(after.values())
        for tag, after in following.items()
    )
