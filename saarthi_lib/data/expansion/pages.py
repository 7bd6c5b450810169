"""Page headers of Parquet: counts and sizes of the values, before any of them is decoded.

The footer of a file repeats these numbers, but readers trust those of the pages. Headers are
written in Thrift's compact protocol.
"""

import os
from dataclasses import dataclass, field
from typing import Any

_FIRST_READ, _LONGEST_HEADER = 1 << 10, 16 << 20  # bytes
_DEEPEST = 8
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_DATA, _DICTIONARY, _DATA_2 = 0, 2, 3  # types of pages
_HEADER_OF = {_DATA: 5, _DICTIONARY: 7, _DATA_2: 8}  # field with the page's own header
_ENCODING_OF = {_DATA: 2, _DATA_2: 4}
_BY_DICTIONARY = (2, 8)
DELTA_BYTE_ARRAY = 7  # each value is the beginning of the value before, and a rest


class PageError(Exception):
    """A page header that cannot be read."""


@dataclass
class Pages:
    """Counts and sizes of the pages of a column chunk.

    Attributes:
        values: values of all data pages, nulls included.
        by_dictionary: those that are indices of the dictionary.
        sizes: bytes of each data page without compression.
        encodings: encodings of the data pages.
        dictionary: place and sizes of the dictionary's page: offset, compressed and other bytes,
            and values.
    """

    values: int = 0
    by_dictionary: int = 0
    sizes: list[int] = field(default_factory=list)
    encodings: set[int] = field(default_factory=set)
    dictionary: tuple[int, int, int, int] | None = None


def read_pages(descriptor: int, start: int, size: int) -> Pages:
    """Read the page headers of a column chunk.

    Args:
        descriptor: the file.
        start: offset of the chunk.
        size: compressed bytes of the chunk.

    Raises:
        PageError: a header is damaged.
    """
    pages, at, end = Pages(), start, start + size
    while at < end:
        header, length = _header(descriptor, at)
        kind, unpacked, packed = (_count(header, name) for name in (1, 2, 3))
        if kind in _HEADER_OF:
            own = header.get(_HEADER_OF[kind])
            if not isinstance(own, dict):
                raise PageError("a page lacks its own header")
            values = _count(own, 1)
            if kind == _DICTIONARY:
                pages.dictionary = (at + length, packed, unpacked, values)
            else:
                encoding = _count(own, _ENCODING_OF[kind])
                pages.values += values
                pages.by_dictionary += values if encoding in _BY_DICTIONARY else 0
                pages.encodings.add(encoding)
                pages.sizes.append(unpacked)
        at += length + packed
    return pages


def longest_value(content: bytes) -> int:
    """Bytes of the longest value of a dictionary's page: each has a length of four bytes before."""
    at = longest = 0
    while at + 4 <= len(content):
        length = int.from_bytes(content[at : at + 4], "little")
        longest = max(longest, length)
        at += 4 + length
    return longest


def _count(header: dict[int, Any], name: int) -> int:
    value = header.get(name)
    if not isinstance(value, int) or value < 0:
        raise PageError("a page header lacks a count or has a negative one")
    return value


def _header(descriptor: int, at: int) -> tuple[dict[int, Any], int]:
    """The header at an offset, and its length."""
    size = _FIRST_READ
    while True:
        content = os.pread(descriptor, size, at)
        try:
            return _struct(content, 0, 0)
        except IndexError:
            if len(content) < size or size >= _LONGEST_HEADER:
                raise PageError("a page header is cut off") from None
            size *= 8


def _struct(content: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    if depth > _DEEPEST:
        raise PageError("a page header is nested too deeply")
    fields: dict[int, Any] = {}
    name = 0
    while content[at]:
        delta, kind = divmod(content[at], 16)
        at += 1
        if delta:
            name += delta
        else:
            name, at = _signed(content, at)
        fields[name], at = _value(content, at, kind, depth)
    return fields, at + 1


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind == _STRUCT:
        return _struct(content, at, depth + 1)
    if kind == _BINARY:
        size, at = _varint(content, at)
        return None, _inside(content, at + size)
    if kind == _BYTE:
        return content[at], at + 1
    if kind == _DOUBLE:
        return None, _inside(content, at + 8)
    if kind in (_LIST, _SET, _MAP):
        size, types, at = _collection(content, at, kind)
        for _ in range(size):
            for each in types:
                at = _value(content, at, each, depth + 1)[1]
        return None, at
    if kind < _DOUBLE:
        return _signed(content, at)
    raise PageError("a page header has a field of an unknown type")


def _collection(content: bytes, at: int, kind: int) -> tuple[int, tuple[int, ...], int]:
    """Number of elements, the types of one (a map has two), and the end of the collection's head.

    Each element takes a byte or more, so the end of the content ends a false number.
    """
    types: tuple[int, ...]
    if kind == _MAP:
        size, at = _varint(content, at)
        if not size:
            return 0, (), at
        types = divmod(content[at], 16)
    else:
        size, types = content[at] >> 4, (content[at] & 15,)
        if size == 15:
            size, at = _varint(content, at + 1)
            at -= 1
    if 0 in types:
        raise PageError("a page header has a collection of an unknown type")
    return size, tuple(_BYTE if each in (_TRUE, _FALSE) else each for each in types), at + 1


def _inside(content: bytes, at: int) -> int:
    if at > len(content):
        raise IndexError
    return at


def _signed(content: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(content, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise PageError("a page header has a number that is too long")
