"""Parse untrusted JSON."""

import json
from typing import Any


class DuplicateKeyError(ValueError):
    """A key occurs twice in an object; the message names it."""


def with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of its keys and values.

    Raises:
        DuplicateKeyError: a key occurs twice; the last value would hide the others.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                message = f"the key {key[:200]!r} occurs twice; no key may be given twice"
                raise DuplicateKeyError(message)
            seen.add(key)
    return found


def parse_json(content: bytes) -> Any:
    """Parse JSON; accept only content that every reader parses alike.

    Raises:
        ValueError: not JSON in UTF-8, nested too deeply, or contains a key twice, NaN, Infinity,
            numbers beyond floats (1e999) or lone surrogates (text that no encoding can hold).
    """

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not valid in JSON")

    text = content.decode("utf-8")
    try:
        parsed = json.loads(text, parse_constant=refuse, object_pairs_hook=with_unique_keys)
        json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return parsed
