"""spaCy: training data in JSON (version 2, or tuples of text and annotations) and `.spacy`.

Source of the description: explosion/spaCy, `spacy/training/gold_io.pyx` (JSON: paragraphs with
`raw`, sentences and tokens with `orth` and `ner`; `entities` of a paragraph; `cats`), the
documentation "Data formats", `Doc.to_json` (`text`, `ents` and `cats`), scripts in explosion's
projects (JSON lines with `text` and `cats`), and code that reads files of NER Annotator (`classes`,
and `annotations` with tuples, or null for a text without any).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from saarthi_lib.data.exports.documents import Head, json_objects, load_json
from saarthi_lib.data.exports.reading import Reading, example, unfit
from saarthi_lib.data.exports.spans import BadSpanError, entity
from saarthi_lib.data.formats.columns import LABEL_COLUMNS, Fault, RawRow
from saarthi_lib.errors import DataError

# Parts of documents that are read, counted elsewhere, or made again from the text.
_DOC = {"text", "ents", "cats", "lang", "spans", "tokens", "sents"}


def recognize(head: Head) -> str:
    """Whether a file has documents of spaCy."""
    if head.suffix == ".spacy":
        return "rows"
    first = head.value
    if isinstance(first, dict) and isinstance(first.get("ents"), list):
        return "rows" if "text" in first and {"tokens", "sents", "cats"} & first.keys() else ""
    if _has_categories(first):
        return "rows"
    if _is_annotator(first) and not head.is_array:
        return "rows"
    if not head.is_array:
        return ""
    if isinstance(first, dict):
        return "rows" if isinstance(first.get("paragraphs"), list) else ""
    return "rows" if _is_tuple(first) else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Paragraphs or documents with entities, and with the category that is true.

    Raises:
        DataError: the file is a `.spacy` file, and spaCy is not installed.
    """
    if path.suffix.lower() == ".spacy":
        yield from _binary_rows(path, reading)
        return
    first = Head(path).object
    if "ents" in first or _has_categories(first):
        for row, found in json_objects(path):
            if isinstance(found, Fault):
                yield RawRow(row, faults=(found,))
                continue
            _leave_spans(found.get("spans"), path, row, reading)
            for name in found.keys() - _DOC:
                reading.leave(f"column {name}", path, row)
            yield _doc(row, found)
        return
    row = 0
    content = load_json(path)
    by_annotator = _is_annotator(content)
    for given in content["annotations"] if by_annotator else content:
        if by_annotator and given is None:
            row += 1
            reading.leave("text without an annotation", path, row)
        elif _is_tuple(given):
            row += 1
            _leave_spans(given[1].get("spans"), path, row, reading)
            yield _tuple_row(row, *given, unclear=by_annotator)
        elif isinstance(given, dict) and isinstance(given.get("paragraphs"), list):
            for paragraph in given["paragraphs"]:
                row += 1
                yield _paragraph(row, paragraph, path, reading)
        else:
            row += 1
            yield unfit(row, "is not a document with 'paragraphs' nor [text, annotations]")


def _has_categories(value: Any) -> bool:
    """Whether an object has a text with categories, and no usual column of labels."""
    names = value.keys() if isinstance(value, dict) else set()
    named = {"text", "cats"} <= names and names.isdisjoint(LABEL_COLUMNS)
    return named and isinstance(value["cats"], dict)


def _is_tuple(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], dict)
        and bool({"entities", "cats"} & value[1].keys())
    )


def _leave_spans(groups: Any, path: Path, row: int, reading: Reading) -> None:
    """Count groups of spans, which may overlap; only the entities are read."""
    for name, spans in groups.items() if isinstance(groups, Mapping) else ():
        reading.leave(f"span of the group {name}", path, row, len(spans or ()))


def _is_annotator(content: Any) -> bool:
    """Whether a document is one of NER Annotator, which runs in browsers."""
    return isinstance(content, dict) and all(
        isinstance(content.get(name), list) for name in ("classes", "annotations")
    )


def _tuple_row(
    row: int, text: str, annotations: dict[str, Any], *, unclear: bool = False
) -> RawRow:
    try:
        entities = [
            entity(text, *each[:3], unclear=unclear) for each in annotations.get("entities") or []
        ]
        label = _category((annotations.get("cats") or {}).items())
    except (BadSpanError, TypeError, AttributeError, ValueError) as error:
        return unfit(row, str(error))
    return example(row, text, label, None, entities)


def _doc(row: int, found: dict[str, Any]) -> RawRow:
    """A document that `Doc.to_json` has written."""
    text = found.get("text")
    if not isinstance(text, str):
        return unfit(row, "the document has no text; give it one")
    try:
        entities = [
            entity(text, each.get("start"), each.get("end"), each.get("label"))
            for each in found.get("ents") or []
        ]
        label = _category((found.get("cats") or {}).items())
    except (BadSpanError, TypeError, AttributeError, ValueError) as error:
        return unfit(row, str(error))
    return example(row, text, label, found.get("lang"), entities)


def _paragraph(row: int, paragraph: Any, path: Path, reading: Reading) -> RawRow:
    """A paragraph: its words with tags, or without tags its text."""
    try:
        label = _category((each["label"], each["value"]) for each in paragraph.get("cats") or [])
        tokens = [
            token for sentence in paragraph.get("sentences") or [] for token in sentence["tokens"]
        ]
        words = [str(token["orth"]) for token in tokens]
    except (AttributeError, KeyError, TypeError, ValueError):
        return unfit(row, "a token has no 'orth', or a category no 'label' and 'value'")
    text = paragraph.get("raw") or " ".join(words)
    tags = [str(token.get("ner", "")) for token in tokens]
    if not any(tags):
        spans = {"entities": paragraph.get("entities")}
        return _tuple_row(row, text, spans)._replace(label=label)
    if "-" in tags or "" in tags:
        at = next(at for at, tag in enumerate(tags) if tag in ("-", ""))
        return unfit(row, f"the word {words[at]!r} has an unknown tag ('-'); correct it")
    return RawRow(row, text, label, None, words=words, tags=tags)


def _category(categories: Any) -> Any:
    """The one category whose value is 1; several stay a list."""
    true = [str(name) for name, value in categories if float(value) >= 0.5]
    return true[0] if len(true) == 1 else true or None


def _binary_rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    try:
        import spacy  # type: ignore[import-not-found, unused-ignore]
        from spacy.tokens import DocBin  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise DataError(
            f"{path}: needs the package spacy; install it, or convert the file to JSON"
        ) from None
    try:
        documents = DocBin().from_disk(path).get_docs(spacy.blank("xx").vocab)
        for row, document in enumerate(documents, 1):
            entities = [
                entity(document.text, span.start_char, span.end_char, span.label_)
                for span in document.ents
            ]
            _leave_spans(document.spans, path, row, reading)
            for name in ("TAG", "POS", "DEP"):
                reading.leave(
                    f"spaCy {name}", path, row, int(len(document) and document.has_annotation(name))
                )
            lang = document.lang_ if document.lang_ != "xx" else None
            label = _category(document.cats.items())
            yield example(row, document.text, label, lang, entities)
    except (ValueError, KeyError, OSError) as error:
        raise DataError(f"{path}: cannot be read as DocBin ({error}); write it again") from None
