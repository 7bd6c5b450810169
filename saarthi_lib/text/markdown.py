"""Names and texts of users in Markdown: no markup, link or line break of theirs takes effect."""

import re

_SIMPLE = re.compile(r"[^\W_][^\W_]*(?:[ .,:=+-][^\W_]+)*")
# Line breaks, other controls, and marks that change the direction of the text after them.
UNSAFE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


def text(value: object) -> str:
    """A value as plain text if Markdown reads it so, else as code."""
    shown = UNSAFE.sub(" ", str(value)).strip()
    is_link = "www." in shown.lower()
    return shown if _SIMPLE.fullmatch(shown) and not is_link else code(shown)


def code(value: object) -> str:
    """A value as inline code, whose fence is longer than every run of backticks in it."""
    shown = UNSAFE.sub(" ", str(value)).strip() or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if "`" in (shown[0], shown[-1]) else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def cell(value: object) -> str:
    """A value as a cell of a table."""
    return text(value).replace("|", r"\|")
