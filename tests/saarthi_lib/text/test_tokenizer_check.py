"""Tokenizers whose parts could run long, grow texts or give random tokens are refused."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from saarthi_lib.errors import BundleError
from saarthi_lib.text.tokenizer import SubwordTokenizer
from tests.tiny_bundle import make_tokenizer

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def parse(content: dict[str, Any] | Tokenizer) -> SubwordTokenizer:
    text = content.to_str() if isinstance(content, Tokenizer) else json.dumps(content)
    return SubwordTokenizer.parse(text.encode(), Path("tokenizer.json"))


def with_normalizers(*parts: Any) -> Tokenizer:
    tokenizer = make_tokenizer()
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *parts])
    return tokenizer


def with_split(pattern: str) -> Tokenizer:
    tokenizer = make_tokenizer()
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.Metaspace()])
    return tokenizer


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(make_tokenizer().to_str())
    change(content)
    return content


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$",
        r"(a*)*b",
        r"(?:a|a)*c",
        r"([ab]+){2,}c",
        r"a*a*a*b",
        r"(x|a*)(y|a*)a*b",
        r"a**b",
        r"a{2,}+b",
        r"(a+)\1",
        r"(?<x>a)\g<x>",
        r"(?<=a+)b",
        r"(?>a)b",
        r"a{1,100000}b",
        "a" * 2000,
    ],
)
def test_slow_regular_expressions_are_refused(pattern: str) -> None:
    content = changed(
        lambda c: c.update(
            normalizer={"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
        )
    )
    with pytest.raises(BundleError, match=r"tokenizer\.json: .*its regular expression"):
        parse(content)


@pytest.mark.parametrize(
    "pattern", [" {2,}", r"\s", r"[\r\n]+", r"\p{Z}+", "a?b", "x|yz|[a-z]+", "(a|b)?c", QWEN]
)
def test_regular_expressions_of_known_models_are_read(pattern: str) -> None:
    parse(with_normalizers(normalizers.Replace(Regex(pattern), " ")))
    parse(with_split(pattern))


@pytest.mark.parametrize(
    "parts",
    [
        [normalizers.Replace("a", "b" * 1000)],
        [normalizers.Replace("a", "aa")] * 10,
        [normalizers.Replace(Regex("a"), "aaaa")] * 4,
        [normalizers.Prepend("▁" * 1000)],
        [normalizers.Lowercase()] * 100,
    ],
)
def test_normalizers_that_grow_texts_are_refused(parts: list[Any]) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json: .*(times longer|parts)"):
        parse(with_normalizers(*parts))


def test_tables_that_grow_texts_are_refused() -> None:
    table = base64.b64encode(bytes(4) + b"ab\0" + b"x" * 5000 + b"\0").decode()
    content = changed(
        lambda c: c.update(normalizer={"type": "Precompiled", "precompiled_charsmap": table})
    )
    with pytest.raises(BundleError, match="5000 bytes of one character"):
        parse(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].update(dropout=0.5), "random"),
        (lambda c: c["model"].update(max_input_chars_per_word=10**6), "1000000 characters"),
        (lambda c: c["model"]["vocab"].append(["x" * 5000, -9.0]), "has 5000 characters"),
        (lambda c: c["model"].update(unk_id=None), "unk"),
        (lambda c: c.update(added_tokens=[{"content": ""}]), "is empty"),
        (lambda c: c.update(added_tokens=[{"content": "a"}] * 10_001), "10001 added tokens"),
        (lambda c: c.pop("model"), "no model"),
    ],
)
def test_harmful_models_are_refused(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(BundleError, match=rf"tokenizer\.json: .*{message}"):
        parse(changed(change))


def test_models_that_fail_for_rare_words_are_refused() -> None:
    pieces = {"[UNK]": 0, "a": 1}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[MISSING]"))
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        parse(tokenizer)
