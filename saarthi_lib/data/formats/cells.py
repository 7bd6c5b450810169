"""Values of cells: lists that are written as text, and numbers as labels."""

import ast
import json
import re
from typing import Any

# Largest whole number that floats count without gaps.
_LARGEST_FLOAT = 2**53

_STRING = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_STRINGS = re.compile(_STRING, re.DOTALL)
_ARRAY = re.compile(r"(?:np\.|numpy\.)?array\((.*?)(?:,\s*dtype=[\w<>'\".]+)?\)", re.DOTALL)
_SEPARATED = re.compile(rf"\[\s*(?:{_STRING})(?:\s+(?:{_STRING}))+\s*\]", re.DOTALL)
_NUMBERS = re.compile(r"\[\s*-?\d+(?:\s+-?\d+)+\s*\]")
_GLUED = re.compile(r"([}\])])\s+(?=[{\[(])")
_LIST = re.compile(r"""\s*(?:\[|\(|\{|(?:np\.|numpy\.)?array\()\s*(?:['"\[({\d\])}-]|None|nan)""")
_BROKEN = re.compile(r"""\s*[\[({]\s*(?:'[^']*'|"[^"]*")\s*[,:]""")
_ENDS = ("]", ")", "}")
_BRACKETS = re.compile(r"""[(\[{'"]+[\w\\-].*|.*\w['"\])},;]+""", re.DOTALL)


class BadCellError(Exception):
    """A cell cannot be read; the message says what it holds."""


def list_of(value: Any) -> Any:
    """A list that is written as text: JSON, Python, numpy, or words separated by spaces.

    Raises:
        BadCellError: the text begins like a list, and cannot be read as one.
    """
    if not isinstance(value, str):
        return value
    if not is_literal(value):
        if _BROKEN.match(value):
            raise BadCellError(f"the cell holds a part of a list ({_shown(value)}); complete it")
        return value.split()
    found = literal(value)
    if isinstance(found, dict):
        raise BadCellError(f"the cell holds a dictionary ({_shown(value)}); write a list")
    return list(found)


def is_literal(value: str) -> bool:
    """Whether a text begins and ends like a list, tuple or dictionary in JSON, Python or numpy."""
    return value.rstrip()[-1:] in _ENDS and _LIST.match(value) is not None


def literal(value: str) -> Any:
    """The list, tuple or dictionary that a text holds.

    Raises:
        BadCellError: the text cannot be read.
    """
    text = value.strip()
    try:
        found = json.loads(text)
        if isinstance(found, list | dict):
            return found
    except (ValueError, RecursionError):
        pass
    if array := _ARRAY.fullmatch(text):
        text = array[1].strip()
    try:
        found = ast.literal_eval(_with_commas(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        found = None
    if isinstance(found, list | tuple | dict):
        return found
    raise BadCellError(
        f"the cell holds {_shown(value)}, which is not a list that can be read; write JSON, or "
        "words separated by spaces"
    )


def check_tags(tags: list[Any]) -> None:
    """Check that tags of a text without brackets do not hold parts of a list.

    Raises:
        BadCellError: a tag has brackets, quotes or commas.
    """
    wrong = next((tag for tag in tags if isinstance(tag, str) and _BRACKETS.fullmatch(tag)), None)
    if wrong is not None:
        raise BadCellError(
            f"the tag {_shown(wrong)} has a bracket, quote or comma; write the tags as a JSON "
            "list, or separated by spaces"
        )


def label_of(value: Any) -> str:
    """The one label of a cell; "" if it is empty. Whole numbers such as 1.0 are written as 1.

    Raises:
        BadCellError: the cell holds several labels, or another value.
    """
    if isinstance(value, str) and is_literal(value):
        try:
            found = literal(value)
            value = found if isinstance(found, dict) or _are_labels(found) else value
        except BadCellError:
            if value.lstrip()[:2] in ("['", '["', "('", '("', "{'", '{"'):
                raise
    if isinstance(value, list | tuple):
        if len(value) > 1:
            raise BadCellError(f"the row has {len(value)} labels, {_shown(value)}; give one label")
        value = value[0] if value else None
    if isinstance(value, list | tuple | dict | set):
        raise BadCellError(f"the label is {_shown(value)}; give one label")
    if isinstance(value, bytes):
        raise BadCellError(f"the label is binary ({_shown(value)}); give text")
    if value is None or value != value:  # NaN
        return ""
    return number_name(value) if not isinstance(value, str) else value.strip()


def number_name(value: Any) -> str:
    """Name of a number or another value as a label: 1 for 1, 1.0 and Decimal("1.00")."""
    try:
        whole = not isinstance(value, bool) and abs(value) < _LARGEST_FLOAT and value == int(value)
    except (TypeError, ValueError, OverflowError):
        return str(value).strip()
    return str(int(value)) if whole else str(value).strip()


def _are_labels(found: Any) -> bool:
    return all(isinstance(item, str | int | float | None) for item in found)


def _with_commas(text: str) -> str:
    """The text of a numpy array with commas between its items."""
    if _SEPARATED.fullmatch(text):
        return f"[{', '.join(_STRINGS.findall(text))}]"
    if _NUMBERS.fullmatch(text):
        return f"[{', '.join(text[1:-1].split())}]"
    if _is_glued(text):
        raise ValueError("two strings without a comma")
    parts, at = [], 0
    for found in _STRINGS.finditer(text):  # brackets outside strings only
        parts += [_GLUED.sub(r"\1, ", text[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*parts, _GLUED.sub(r"\1, ", text[at:])])


def _is_glued(text: str) -> bool:
    """Whether two strings follow each other without a comma, which Python joins to one."""
    at = None
    for found in _STRINGS.finditer(text):
        if at is not None and not text[at : found.start()].strip():
            return True
        at = found.end()
    return False


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
