"""Compressed bodies of requests: they are decompressed within the limit of a body."""

import zlib

from predictors.errors import MediaTypeError, RequestError, TooMuchBodyError

_WINDOW_BITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # zlib's numbers of the formats
_PLAIN = (b"", b"identity")
_MAX_PARTS = 64  # gzip bodies in a row; each costs a copy of the rest
_READ = ((b"accept-encoding", b"gzip, deflate"),)


def decoded(body: bytes, encoding: bytes, most: int) -> bytes:
    """Decompress a body.

    Args:
        body: body as sent.
        encoding: value of the header `Content-Encoding`.
        most: maximum bytes of the decompressed body.

    Raises:
        MediaTypeError: the encoding is not supported.
        RequestError: the body is cut off, or not of its encoding.
        TooMuchBodyError: the decompressed body is too large; no more than this is decompressed.
    """
    name = encoding.strip().lower()
    if name in _PLAIN:
        return body
    shown = name.decode("latin-1")
    if name not in _WINDOW_BITS:
        raise MediaTypeError(
            f"the content encoding {shown[:64]!r} is not supported: send the body as gzip or "
            "deflate, or uncompressed",
            _READ,
        )
    found, left = b"", body
    for _ in range(_MAX_PARTS):
        stream = zlib.decompressobj(_WINDOW_BITS[name])
        try:
            found += stream.decompress(left, most + 1 - len(found))
        except zlib.error as error:
            raise RequestError(f"the body is not {shown}: {error}") from error
        if len(found) > most:
            raise TooMuchBodyError(most, " after decompression")
        if not stream.eof:
            raise RequestError(f"the body is not complete {shown}: it is cut off")
        left = stream.unused_data
        if not left:
            return found
    raise RequestError(f"the body has more than {_MAX_PARTS} parts of {shown}: send one")
