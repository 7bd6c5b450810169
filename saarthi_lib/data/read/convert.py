"""Convert raw rows to rows of the table."""

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.alignment import Span, cut_at_entities
from saarthi_lib.data.formats import Fault, RawRow
from saarthi_lib.data.formats.cells import BadCellError, is_literal, label_of
from saarthi_lib.data.formats.conll import missing_word
from saarthi_lib.data.read.entities import BadEntityError, entity_tags
from saarthi_lib.data.tag_schemes import TagForm, is_well_formed, to_bio
from saarthi_lib.errors import DataError
from saarthi_lib.tasks import bio_spans, has_sequence_head, has_token_head, uses_bio
from saarthi_lib.text.language_names import language_name
from saarthi_lib.text.normalize import Normalizer
from saarthi_lib.text.words import split_words, word_spans

UNNAMED = (
    "the tags are numbers without names; put the data set's dataset_info.json next to the file, or "
    "write the names"
)
_NOT_TEXT = {list: "a list", dict: "an object", bytes: "binary", int: "a number"}


class LeftOutError(Exception):
    """A row that cannot be used."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__()
        self.faults = faults


class Converter:
    """Converts a raw row to the table's columns, or raises `LeftOutError` with the faults.

    Attributes:
        schema: columns without `file`, in the order of the values that a call returns.
    """

    def __init__(
        self, config: TrainConfig, labelled: bool, language: str, form: TagForm | None
    ) -> None:
        self._task = config.task
        self._labelled = labelled
        self._form = form or TagForm()
        self._well_formed = lru_cache(4096)(partial(is_well_formed, form=self._form))
        self._bio = uses_bio(config.task)
        self._has_label = labelled and has_sequence_head(config.task)
        self._has_words = has_token_head(config.task)
        self._has_group = labelled and bool(config.group_column)
        self._normalizer = Normalizer(config.normalization)
        self._splitting = config.word_splitting
        self._language = lru_cache(1024)(language_name)
        self._default_language = language_name(language or config.language)
        self._repairs: list[Fault] = []
        self._has_floats = False
        named = ("language_column", "group_column")
        self._unseen = {name: column for name in named if (column := getattr(config, name))}
        texts, lists = pa.string(), pa.list_(pa.string())
        fields = [("row", pa.int64()), ("text", texts), ("lang", texts)]
        fields += [("label", texts)] * self._has_label
        if self._has_words and labelled:
            places = pa.list_(pa.int32())
            fields += [("words", lists), ("starts", places), ("ends", places), ("tags", lists)]
        self.schema = pa.schema(fields + [("group", texts)] * self._has_group)

    def take_repairs(self) -> list[Fault]:
        """Return the repairs since the last call."""
        repairs, self._repairs = self._repairs, []
        return repairs

    def __call__(self, raw: RawRow) -> tuple[Any, ...]:
        """Convert a row.

        Raises:
            LeftOutError: the row cannot be used.
        """
        if raw.faults:
            raise LeftOutError(*raw.faults)
        self._repairs += raw.notes
        lang = self._default_language
        if isinstance(raw.lang, str) and raw.lang.strip():
            self._unseen.pop("language_column", None)
            lang = self._language(raw.lang)
        lists: tuple[Any, ...] = ()
        if self._has_words:
            text, *lists = self._text_and_tags(raw)  # type: ignore[assignment]
        else:
            text = self._normalized(raw, raw.text)
        values = (raw.row, text, lang, *self._label(raw), *lists)
        if not self._has_group:
            return values
        group = "" if raw.group is None or raw.group != raw.group else str(raw.group).strip()
        if group:
            self._unseen.pop("group_column", None)
        else:
            self._repairs.append(Fault(raw.row, "missing-group", "has no group: it is one alone"))
        return (*values, group or None)

    def check_columns(self, path: Path) -> None:
        """Raise a DataError for a configured column that is missing in every row."""
        for option, column in self._unseen.items():
            raise DataError(f"{path}: no row has a '{column}'; correct {option}")

    def _normalized(self, raw: RawRow, text: Any) -> str:
        if isinstance(text, str) and not text.isspace():
            text = self._normalizer(text)
            if text:
                return text
        raise _left_out(raw, "empty-text", no_text(text))

    def _label(self, raw: RawRow) -> tuple[str, ...]:
        if not self._has_label:
            return ()
        label = raw.label
        if label.__class__ is int:
            return (str(label),)
        if label.__class__ is str and (text := label.strip()) and text[-1] not in ")]}":
            return (text,)
        return (self._odd_label(raw),)

    def _odd_label(self, raw: RawRow) -> str:
        """A label that is not plain text or a whole number."""
        try:
            text = label_of(raw.label)
        except BadCellError as error:
            raise _left_out(raw, "empty-label", str(error)) from None
        if not text:
            raise _left_out(raw, "empty-label", "the label is empty; remove the row or fill it in")
        if isinstance(raw.label, float) and text != str(raw.label) and not self._has_floats:
            self._has_floats = True
            message = f"the label {raw.label} is read as {text}, and so are other whole numbers"
            self._repairs.append(Fault(raw.row, "whole-number", message))
        return text

    def _text_and_tags(self, raw: RawRow) -> tuple[Any, ...]:
        """Normalized text; labelled rows add words, starts, ends and tags."""
        text, words, tags = raw.text, raw.words, raw.tags if self._labelled else None
        if isinstance(words, list) and words and isinstance(words[0], dict):
            words = None  # tokens with offsets repeat the text
        if words is None and tags and are_texts(tags) and isinstance(text, str):
            if is_literal(text) and len(text.split()) != len(tags):
                message = "the text holds a list of words; name its column 'words'"
                raise _left_out(raw, "bad-words", message)
            words = text.split()
        if words is None:
            normal = self._normalized(raw, text)
            return self._with_entities(raw, normal) if self._labelled else (normal,)
        self._check_words(raw, words, tags)
        if text is None:
            text = " ".join(words)
        normal = self._normalized(raw, text)
        if tags is None:
            return (normal,)
        self._check_tags(raw, words, tags)
        spans = self._spans(raw, text, normal, words)
        if self._bio:
            return self._with_cut_words(raw, normal, spans, to_bio(tags, self._form))
        shown = [normal[a:b] or word for (a, b), word in zip(spans, words, strict=True)]
        return (normal, shown, *zip(*spans, strict=True), tags)

    def _with_entities(self, raw: RawRow, text: str) -> tuple[Any, ...]:
        """Text, words, starts, ends, and tags converted from entity offsets."""
        if not self._bio:
            message = f"'{self._task}' needs a tag for each word (CoNLL, CoNLL-U)"
            raise _left_out(raw, "bad-words", message)
        if raw.tags is None:
            message = "has neither 'entities' nor 'words' with 'tags'; give one of the two"
            raise _left_out(raw, "bad-entity", message)
        spans = split_words(text, self._splitting)
        try:
            tags, widened = entity_tags(raw.text, text, raw.tags, spans, self._normalizer)
        except BadEntityError as error:
            raise _left_out(raw, "bad-entity", str(error)) from None
        self._repairs += [Fault(raw.row, "widened-entity", message) for message in widened]
        return (text, [text[a:b] for a, b in spans], *zip(*spans, strict=True), tags)

    def _with_cut_words(
        self, raw: RawRow, text: str, given: list[Span], tags: list[str]
    ) -> tuple[Any, ...]:
        """Text, and the words that the service splits, tagged with the file's entities."""
        entities: list[tuple[int, int, str]] = []
        for first, after, label in bio_spans(tags):
            real = [span for span in given[first:after] if span[0] < span[1]] or [given[first]]
            entities.append((real[0][0], real[-1][1], label))
        words = split_words(text, self._splitting)
        spans, found = cut_at_entities(words, entities)
        if len(spans) > len(words):
            message = "an entity begins or ends inside a word; predictions cover whole words"
            self._repairs.append(Fault(raw.row, "split-word", message))
        return (text, [text[a:b] for a, b in spans], *zip(*spans, strict=True), found)

    def _spans(self, raw: RawRow, text: str, normal: str, words: list[str]) -> list[Span]:
        """Character spans of the file's words in the normalized text."""
        alignment = None if text == normal else self._normalizer.align(text)
        spans: list[Span] = []
        for word, (start, end) in zip(words, word_spans(text, words), strict=True):
            place = alignment.to_normalized(start, end) if alignment else (start, end)
            if spans and place[0] < spans[-1][1]:
                place = (spans[-1][1], max(place[1], spans[-1][1]))
            if place[0] == place[1]:
                message = f"normalization removes the word {word!r}; no prediction can find it"
                self._repairs.append(Fault(raw.row, "lost-word", message))
            spans.append(place)
        return spans

    def _check_words(self, raw: RawRow, words: Any, tags: Any) -> None:
        """Check that the words occur in the text in order and have one tag each."""
        message = ""
        if not words or not are_texts(words) or not all(words):
            message = "'words' must be a list of texts that are not empty"
        elif self._labelled and tags is None:
            message = "the words have no 'tags'; give one for each word"
        elif self._labelled and are_numbers(tags):
            message = UNNAMED
        elif self._labelled and not (are_texts(tags) and all(tags)):
            message = "'tags' must be a list of texts that are not empty"
        elif self._labelled and len(tags) != len(words):
            message = f"{len(words)} words but {len(tags)} tags; give each word one"
        elif isinstance(raw.text, str) and raw.lines is None:
            missing = missing_word(words, raw.text)
            message = f"the word {missing!r} is not in the text; correct one" if missing else ""
        if message:
            raise _left_out(raw, "bad-words", message)

    def _check_tags(self, raw: RawRow, words: list[str], tags: list[str]) -> None:
        """Check that entity tags belong to the file's scheme, and other tags are not empty."""
        if self._bio:
            wrong = [at for at, tag in enumerate(tags) if not self._well_formed(tag)]
            plain = self._form == TagForm()
            form = "O, B-label or I-label" if plain else "a tag of its file's form"
        else:
            wrong = [at for at, tag in enumerate(tags) if tag == "_" or not tag.isprintable()]
            form = "a tag"
        if wrong:
            message = "the word {!r} has the tag {!r}, which is not {}; correct it"
            raise LeftOutError(
                *(
                    Fault(
                        raw.lines[at] if raw.lines else raw.row,
                        "malformed-tag",
                        message.format(words[at], tags[at], form),
                    )
                    for at in wrong
                )
            )


def no_text(value: Any) -> str:
    """Message on a value in place of a text."""
    what = next((name for kind, name in _NOT_TEXT.items() if isinstance(value, kind)), "empty")
    return f"the text is {what}; remove the row or fill it in"


def are_texts(value: Any) -> bool:
    """Whether a value is a list of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def are_numbers(value: Any) -> bool:
    """Whether a value is a list of whole numbers."""
    return isinstance(value, list) and bool(value) and all(isinstance(tag, int) for tag in value)


def _left_out(raw: RawRow, kind: str, message: str) -> LeftOutError:
    return LeftOutError(Fault(raw.row, kind, message))
