"""Say which encoding a file that is not UTF-8 probably has."""

from pathlib import Path

_MARKS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK": "a zip archive or workbook",
    b"\x1f\x8b": "compressed with gzip",
    b"\xd0\xcf": "a workbook of the old form (.xls)",
}
_START = 4_096  # bytes


def not_utf8(path: Path) -> str:
    """Error message for a file that is not UTF-8: its first such row, and its likely encoding."""
    row, line = _first_undecodable(path)
    guess = _guess(path, line)
    return (
        f"{path}: row {row}: is not UTF-8, but probably {guess}; save the file as text with the "
        "encoding UTF-8"
    )


def _first_undecodable(path: Path) -> tuple[int, bytes]:
    """Number and content of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number, line
    return 1, b""


def _guess(path: Path, line: bytes) -> str:
    with path.open("rb") as file:
        start = file.read(_START)
    if start[:2] in _MARKS:
        return _MARKS[start[:2]]
    if start.count(b"\0") > len(start) // 4:
        return "UTF-16"
    try:
        line.decode("cp1252")
    except UnicodeDecodeError:
        return "another encoding or not text"
    return "Windows-1252 or Latin-1"
