"""Check of a `tokenizer.json` before the library reads it: parts that could run long or grow texts.

A tokenizer can replace parts of texts by regular expressions and by tables. Those of known models
take a time linear in a text and hardly change its length; others are refused.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PARTS = 64  # normalizers and pre-tokenizers
_ADDED_TOKENS = 10_000
_TOKEN_CHARACTERS = 1_000
_WORD_CHARACTERS = 200  # of a word for WordPiece, whose time grows with the cube of it
_GROWTH = 100  # times that a text may become longer
_MAPPED_BYTES = 256  # that one character may become by a table; NFKC has 33
_REGEX_CHARACTERS = 1_000
_REPEATS = 2  # quantifiers in an alternative: its time can grow with this power of the length

# Character classes and escapes, groups, quantifiers, alternatives, and any other character.
_REGEX = re.compile(
    r"(?P<class>\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\\[])*\])|(?P<escape>\\[pP]\{\^?\w+\}|\\.)"
    r"|(?P<begin>\((?:\?(?:[imx]*:|[=!]))?)|(?P<end>\))|(?P<repeat>[*+?]|\{\d*,?\d*\})|(?P<or>\|)|.",
    re.DOTALL,
)


class TokenizerFaultError(ValueError):
    """A part of a tokenizer that is refused; the message names it."""


def check_tokenizer(content: bytes) -> None:
    """Check the content of a `tokenizer.json`; other faults of it are left to the library.

    Raises:
        TokenizerFaultError: a part could take very long, grow texts or give random tokens.
    """
    try:
        parsed = json.loads(content)
    except RecursionError:
        raise TokenizerFaultError("it is nested too deeply") from None
    except ValueError as error:
        raise TokenizerFaultError(f"it is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise TokenizerFaultError("it is not a JSON object")
    growth, number = 1.0, 0
    for where in ("normalizer", "pre_tokenizer"):
        for part in _parts(parsed.get(where)):
            number += 1
            growth *= _growth(part)
            if number > _PARTS:
                raise TokenizerFaultError(f"it has more than {_PARTS} parts")
            if growth > _GROWTH:
                raise TokenizerFaultError(f"its normalizers make texts over {_GROWTH} times longer")
    _check_added(parsed.get("added_tokens"))
    _check_model(parsed.get("model"))


def _parts(part: Any) -> Iterator[Mapping[str, Any]]:
    """A part, or those of a sequence."""
    waiting = [part]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict):
            continue
        yield part
        for name in ("normalizers", "pretokenizers"):
            if isinstance(inside := part.get(name), list):
                waiting += inside


def _growth(part: Mapping[str, Any]) -> float:
    """How many times longer a part may make a text; checks its expressions."""
    kind = part.get("type")
    if kind == "Precompiled":
        _check_table(str(part.get("precompiled_charsmap") or ""))
    if kind == "Prepend":
        return 1 + len(str(part.get("prepend")))
    if kind not in ("Replace", "Split"):
        return 1
    pattern = part.get("pattern")
    pattern = pattern if isinstance(pattern, dict) else {"String": pattern}
    added = len(str(part.get("content"))) if kind == "Replace" else 0
    if "Regex" in pattern:
        _check_regex(str(pattern["Regex"]))
        return 1 + added
    replaced = len(str(pattern.get("String")))
    if not replaced:
        raise TokenizerFaultError(f"its {kind} replaces an empty text")
    return max(1, added / replaced)


def _check_regex(text: str) -> None:
    """Refuse expressions whose time can grow faster than the square of a text's length."""
    fault = f"its regular expression {text[:100]!r}"
    if len(text) > _REGEX_CHARACTERS:
        raise TokenizerFaultError(f"{fault}… has {len(text)} characters")
    repeats = depth = 0
    before = ""  # kind of the part before; a quantifier itself
    for found in _REGEX.finditer(text):
        kind = found.lastgroup or ""
        depth += (kind == "begin") - (kind == "end")
        if kind == "or" and not depth:
            repeats = 0
        elif kind == "begin" and text[found.end() : found.end() + 1] == "?":
            raise TokenizerFaultError(f"{fault} has a group of an unusual kind")
        elif kind == "escape" and (found[0][1].isdigit() or found[0][1] in "kg"):
            raise TokenizerFaultError(f"{fault} refers to another part of the text")
        elif kind == "repeat":
            kind = found[0]
            is_mode = before in ("*", "+", "?") and kind in ("?", "+")  # lazy or possessive
            repeats += kind != "?" and not is_mode
            nested = before == "end" and kind != "?"
            doubled = before[:1] in ("*", "+", "?", "{") and not is_mode
            if nested or doubled or repeats > _REPEATS or _most(kind) > _REGEX_CHARACTERS:
                raise TokenizerFaultError(f"{fault} could take very long")
        before = kind


def _most(repeat: str) -> int:
    """The largest number of a quantifier in braces."""
    return max((int(number) for number in re.findall(r"\d{1,9}", repeat)), default=0)


def _check_table(encoded: str) -> None:
    """Refuse a table that makes long texts of single characters.

    Its first four bytes are the size of the trie; texts that end in zero bytes follow the trie.
    """
    try:
        table = base64.b64decode(encoded)
    except ValueError as error:
        raise TokenizerFaultError(f"its table of characters is damaged ({error})") from None
    texts = table[4 + int.from_bytes(table[:4], "little") :]
    longest = max(map(len, texts.split(b"\0")))
    if longest > _MAPPED_BYTES:
        raise TokenizerFaultError(f"its table makes {longest} bytes of one character")


def _check_added(tokens: Any) -> None:
    tokens = tokens if isinstance(tokens, list) else []
    if len(tokens) > _ADDED_TOKENS:
        raise TokenizerFaultError(f"it has {len(tokens)} added tokens, more than {_ADDED_TOKENS}")
    for token in tokens:
        if isinstance(token, dict) and not token.get("content"):
            raise TokenizerFaultError("an added token is empty")


def _check_model(model: Any) -> None:
    if not isinstance(model, dict):
        raise TokenizerFaultError("it has no model")
    if model.get("dropout"):
        raise TokenizerFaultError("its tokens are random (dropout)")
    longest = model.get("max_input_chars_per_word")
    if isinstance(longest, int | float) and longest > _WORD_CHARACTERS:
        raise TokenizerFaultError(
            f"its words may have {longest} characters, more than {_WORD_CHARACTERS} "
            "(max_input_chars_per_word)"
        )
    vocabulary = model.get("vocab")
    tokens = vocabulary if isinstance(vocabulary, list | dict) else ()
    for each in tokens:
        token = each[0] if isinstance(each, list) and each else each
        if isinstance(token, str) and len(token) > _TOKEN_CHARACTERS:
            raise TokenizerFaultError(f"the token {token[:50]!r}… has {len(token)} characters")
