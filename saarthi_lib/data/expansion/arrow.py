"""Bytes that Arrow's arrays expand to, when each value becomes an object."""

from typing import TYPE_CHECKING, Any

from saarthi_lib.data.expansion.budget import OF_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa


class TypeOfValuesError(Exception):
    """A type whose values can refer to each other; the message names it."""


def expanded(columns: "Iterable[pa.Array]", limit: int) -> int:
    """Bytes of all values, each counted as often as it occurs; more than `limit` if too many.

    Raises:
        TypeOfValuesError: a column has an unusual type, such as run-end encoded values.
    """
    total = 0
    for column in columns:
        total += _expanded(column, limit - total)
        if total > limit:
            break
    return total


def _expanded(array: Any, limit: int) -> int:
    import pyarrow as pa

    kind, types = array.type, pa.types
    size = OF_VALUE * len(array)
    if size > limit or types.is_null(kind):
        return size
    if types.is_dictionary(kind):
        return size + _of_dictionary(array)
    if types.is_struct(kind):
        inside = [array.field(at) for at in range(kind.num_fields)]
    elif types.is_map(kind):
        inside = [array.keys, array.items]
    elif types.is_fixed_size_list(kind):
        size += OF_VALUE * len(array) * kind.list_size
        inside = [] if size > limit else [array.flatten()]
    elif types.is_list(kind) or types.is_large_list(kind):
        inside = [array.flatten()]
    elif kind.num_fields or types.is_run_end_encoded(kind) or types.is_union(kind):
        raise TypeOfValuesError(f"the type {kind} is not supported")
    else:
        return size + _of_values(array)
    for each in inside:
        if size > limit:
            break
        size += _expanded(each, limit - size)
    return size


def _of_values(array: Any) -> int:
    from pyarrow import compute, types

    kind = array.type
    if types.is_fixed_size_binary(kind):
        return len(array) * int(kind.byte_width)
    has_length = types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)
    if has_length or types.is_large_binary(kind):
        return int(compute.sum(compute.binary_length(array)).as_py() or 0)
    if kind.id in _views():
        lengths = [len(value.as_buffer()) for value in array if value.is_valid]
        return sum(lengths)
    return 0


def _views() -> tuple[int, ...]:
    import pyarrow as pa

    return pa.string_view().id, pa.binary_view().id


def _of_dictionary(array: Any) -> int:
    """Bytes of the values that the indices name."""
    from pyarrow import compute, types

    values = array.dictionary
    if values.type.num_fields or types.is_dictionary(values.type):
        raise TypeOfValuesError(f"the type {array.type} is not supported")
    if types.is_string(values.type) or types.is_large_string(values.type):
        lengths = compute.binary_length(values)
        return int(compute.sum(lengths.take(array.indices)).as_py() or 0)
    longest = _of_values(values) if len(values) else 0
    return longest * len(array)
