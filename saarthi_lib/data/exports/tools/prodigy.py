"""Prodigy: JSON lines that `prodigy db-out` writes.

Source of the description: the beginning of Prodigy's page "Annotation interfaces" (`text`, `spans`
with character offsets, `answer`: accept, reject or ignore; `ner` is about one entity), and public
files and code with `_view_id` "spans_manual" and "choice" (`options`, `accept`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saarthi_lib.data.exports.documents import Head, json_objects
from saarthi_lib.data.exports.reading import Reading, example, unfit
from saarthi_lib.data.exports.spans import BadSpanError, entity
from saarthi_lib.data.formats.columns import REJECTED, Fault, RawRow

_MARKS = {"_input_hash", "_task_hash", "_view_id"}


def recognize(head: Head) -> str:
    """Whether a file has annotated examples."""
    found = head.object
    return "rows" if "text" in found and _MARKS & found.keys() else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Accepted examples; with `all_answers`, rejected and ignored ones, too."""
    for row, found in json_objects(path):
        if isinstance(found, Fault):
            yield RawRow(row, faults=(found,))
            continue
        answer = str(found.get("answer", "accept"))
        if answer != "accept" and not reading.all_answers:
            reading.leave(f"example with the answer {answer}", path, row)
            message = f"an annotator gave the answer '{answer}'"
            yield RawRow(row, faults=(Fault(row, REJECTED, message),))
            continue
        if found.get("_view_id") == "ner":  # its other entities are unknown
            reading.leave("answer about one entity of a text", path, row)
            continue
        yield _row(row, found, path, reading)


def _row(row: int, found: dict[str, Any], path: Path, reading: Reading) -> RawRow:
    text = found.get("text")
    if not isinstance(text, str):
        return unfit(row, "the example has no text; give it one")
    for part in ("relations", "comments"):
        if isinstance(found.get(part), list):
            reading.leave(part.removesuffix("s"), path, row, len(found[part]))
    try:
        entities = [
            entity(
                text,
                span.get("start"),
                span.get("end"),
                span.get("label"),
                covered=span.get("text"),
            )
            for span in found.get("spans") or []
        ]
    except (AttributeError, BadSpanError) as error:
        return unfit(row, str(error))
    return example(row, text, _label(found), found.get("lang"), entities)


def _label(found: dict[str, Any]) -> Any:
    """The chosen option or the label; several chosen options stay a list."""
    if "options" in found or "accept" in found:
        chosen = found.get("accept")
        chosen = chosen if isinstance(chosen, list) else [chosen] if chosen is not None else []
        names = [str(each) for each in chosen]
        return names[0] if len(names) == 1 else names or None
    return found.get("label")
