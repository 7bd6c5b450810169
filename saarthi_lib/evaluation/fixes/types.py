"""Types of the list of fixes, a part of `details.json`."""

from typing import TypedDict


class FixRow(TypedDict):
    """A row to look at, with its gold answer and the given one.

    `file` and `row` are its place in the input; an empty name and None if unknown. `note` says
    more, such as the words that train lacks.
    """

    file: str
    row: int | None
    text: str
    lang: str
    gold: str
    answer: str
    note: str


class Fix(TypedDict):
    """Errors with one cause, and one suggested action.

    `kind` is `confused`, `labels`, `words`, `language`, `withheld` or `other`. `errors` estimates
    the wrong answers that the action may correct. `count` is the number of rows; `rows` has the
    first of them.
    """

    kind: str
    title: str
    action: str
    errors: float
    count: int
    rows: list[FixRow]


class ErrorList(TypedDict):
    """Wrong answers of the delivered model, as a list of fixes, the most useful first.

    `texts` and `wrong` are numbers of texts in scope. `skipped` says why something was not
    examined; empty: all was.
    """

    texts: int
    wrong: int
    fixes: list[Fix]
    skipped: str
