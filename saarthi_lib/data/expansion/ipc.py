"""Read Arrow streams and files within a limit on their unpacked size.

Buffers may be compressed: each then begins with its size, which is read before it is unpacked.
Metadata are FlatBuffers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib.addresses import is_utf8
from saarthi_lib.data.expansion.arrow import TypeOfValuesError, expanded
from saarthi_lib.data.expansion.budget import Budget
from saarthi_lib.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 2**10
_MAGIC = b"ARROW1\0\0"
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # types of messages
_HEADER_TYPE, _HEADER = 1, 2  # fields of a message
_DATA = 1  # field of a batch of dictionary values
_BUFFERS, _COMPRESSION = 2, 3  # fields of a batch of rows


def arrow_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of an Arrow stream or file, by column.

    Raises:
        DataError: the file is damaged, or expands to more than its limit.
    """
    import pyarrow as pa

    row = 0
    try:
        with _source(path) as source:
            budget = Budget(path)
            _count_compressed(source, budget)
            for batch in _batches(source):
                batch.validate(full=True)  # wrong offsets would read memory outside the file
                budget.spend(expanded(batch.columns, budget.limit))
                for start in range(0, len(batch), _ROWS):
                    for found in batch.slice(start, _ROWS).to_pylist():
                        row += 1
                        yield found
    except (pa.ArrowException, OSError, TypeOfValuesError) as error:
        message = f"{path}: row {row + 1}: cannot be read as an Arrow stream ({error})"
        raise DataError(f"{message}; save the data set again") from None


def _source(path: Path) -> Any:
    """The file's bytes; Arrow maps only files whose path is UTF-8."""
    import pyarrow as pa

    return pa.memory_map(str(path)) if is_utf8(path) else pa.PythonFile(path.open("rb"), "r")


def _batches(source: Any) -> Iterator["pa.RecordBatch"]:
    """Batches of an Arrow stream, or of an Arrow file."""
    import pyarrow as pa

    source.seek(0)
    if source.read(6) == _MAGIC[:6]:
        file = pa.ipc.open_file(source)
        yield from map(file.get_batch, range(file.num_record_batches))
    else:
        source.seek(0)
        yield from pa.ipc.open_stream(source)


def _count_compressed(source: Any, budget: Budget) -> None:
    """Count the bytes of all compressed buffers, as their beginnings give them."""
    import pyarrow as pa

    source.seek(0)
    if source.read(len(_MAGIC)) != _MAGIC:  # a file is a stream after its magic number
        source.seek(0)
    for message in pa.ipc.MessageReader.open_stream(source):
        body = message.body
        for offset, length in _compressed_buffers(message.metadata.to_pybytes()):
            if length >= 8 and body is not None and offset + 8 <= body.size:
                start = body.slice(offset, 8).to_pybytes()
                budget.spend(max(0, int.from_bytes(start, "little", signed=True)))


def _compressed_buffers(metadata: bytes) -> list[tuple[int, int]]:
    """Offset and length of each buffer of a message; empty if they are not compressed."""
    try:
        message = _Table(metadata, _number(metadata, 0))
        kind = metadata[at] if (at := message.at(_HEADER_TYPE)) else 0
        batch = message.table(_HEADER)
        if batch and kind == _DICTIONARY_BATCH:
            batch = batch.table(_DATA)
        if batch is None or kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
            return []
        if not batch.at(_COMPRESSION) or not (at := batch.at(_BUFFERS)):
            return []
        start = at + _number(metadata, at)
        places = range(start + 4, start + 4 + 16 * _number(metadata, start), 16)
        return [(_number(metadata, at, 8), _number(metadata, at + 8, 8)) for at in places]
    except IndexError:
        raise TypeOfValuesError("damaged metadata") from None


class _Table:
    """A table of a FlatBuffer: its fields by number."""

    def __init__(self, content: bytes, start: int) -> None:
        self._content, self._start = content, start
        offset = int.from_bytes(content[start : start + 4], "little", signed=True)
        self._fields = start - offset

    def at(self, field: int) -> int:
        """Place of a field's value; 0 if it is missing."""
        if self._fields < 0 or 4 + 2 * field + 2 > _number(self._content, self._fields, 2):
            return 0
        offset = _number(self._content, self._fields + 4 + 2 * field, 2)
        return offset and self._start + offset

    def table(self, field: int) -> "_Table | None":
        at = self.at(field)
        return _Table(self._content, at + _number(self._content, at)) if at else None


def _number(content: bytes, at: int, size: int = 4) -> int:
    part = content[at : at + size]
    if len(part) < size:
        raise IndexError
    return int.from_bytes(part, "little")
