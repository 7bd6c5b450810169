"""Label Studio: exports JSON, JSON-MIN, CSV and TSV, with choices and labels.

Source of the description: Label Studio's documentation "Label Studio Task Format", "Export
annotations" and "HyperTextLabels", its issue 6027 (labels are lists), and the converter in its SDK,
`converter.py`, `utils.py` and `exports/csv2.py` (in JSON-MIN, data come first, then `id`, results
and `annotator`; in CSV, results that are not one text are JSON). Offsets end exclusively, and
`text` is the labelled text.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saarthi_lib.data.exports.documents import Head, csv_objects, json_objects
from saarthi_lib.data.exports.reading import Reading, example, unfit
from saarthi_lib.data.exports.spans import BadSpanError, Entity, entity
from saarthi_lib.data.formats.columns import LABEL_COLUMNS, TEXT_COLUMNS, Fault, RawRow
from saarthi_lib.errors import DataError

_ABOUT_MIN = {
    *("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"),
    *("completed_by", "annotation_ids", "agreement", "history"),
}
_CSV_COLUMNS = {"annotation_id", "annotator", "created_at", "lead_time", "updated_at"}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_ANNOTATIONS = ("annotations", "completions")
_IGNORED_PARTS = {"predictions": "prediction", "drafts": "draft"}
_ENTITIES = ("labels", "hypertextlabels")
_UNREAD = ("paragraphlabels",)  # of parts of a text, whose entities cannot be read

_REMEDY = "is part of a marked-up text; label plain text, with the tags Text and Labels"

Answer = tuple[Any, list[Entity]]  # label and entities


def recognize(head: Head) -> str:
    """Whether a file has tasks: whole ones, or those of JSON-MIN or CSV."""
    if head.suffix in _DELIMITERS:
        names = head.text.split("\n", 1)[0].strip().split(_DELIMITERS[head.suffix])
        return "rows" if {name.strip('"') for name in names} >= _CSV_COLUMNS else ""
    found = head.object
    whole = isinstance(found.get("data"), dict) and any(
        isinstance(found.get(name), list) for name in _ANNOTATIONS
    )
    return "rows" if whole or {"annotation_id", "lead_time"} <= found.keys() else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Tasks with one annotation, or with several equal ones.

    Cancelled annotations, predictions, drafts, tasks without annotations, and results other than
    choices and labels are counted. Tasks whose annotations differ cannot be taken over.

    Raises:
        DataError: the field of the text or of the choices is not clear.
    """
    names = _Names(path, reading)
    together: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    for row, task in _tasks(path):
        if isinstance(task, Fault):
            yield RawRow(row, faults=(task,))
        elif "annotation_id" in task and task["annotation_id"] in (None, ""):
            reading.leave("task without an annotation", path, row)
        elif "annotation_id" in task:
            together.setdefault(task.get("id", row), []).append((row, task))
        else:
            yield from _whole_task(row, task, path, reading, names)
    for tasks in together.values():
        yield from _min_tasks(tasks, path, reading, names)


def _tasks(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Tasks of a file; the empty cells of CSV are left out, and JSON in cells is read."""
    delimiter = _DELIMITERS.get(path.suffix.lower())
    if delimiter is None:
        yield from json_objects(path)
        return
    for row, task in csv_objects(path, delimiter):
        if isinstance(task, Fault):
            yield row, task
        else:
            kept = {name: _value_of(cell) for name, cell in task.items() if cell}
            yield row, {"annotation_id": "", **kept}


def _value_of(cell: str) -> Any:
    """The results that a cell holds as JSON; other cells are texts."""
    if not cell.startswith(("[", "{")):
        return cell
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    listed = found if isinstance(found, list) else [found]
    return found if all(isinstance(each, dict) for each in listed) else cell


class _Names:
    """Names of the fields of the text and of the choices in a file."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path = path
        self._text, self._label = reading.columns.text, reading.columns.label
        self.choices: Counter[str] = Counter()
        plain: Counter[str] = Counter()  # fields with texts: choices, or data of the task
        spans = False
        for _, task in _tasks(path):
            if isinstance(task, dict):
                self.choices.update(_choice_names(task))
                plain.update(_plain_names(task, self._text))
                spans |= any(map(_is_span, task.values()))
        usual = [name for name in plain if name in (*LABEL_COLUMNS, self._label)]
        if not self.choices and (usual or not spans):
            self.choices.update(usual or plain)
        if reading.columns.sequence and not self._label and len(self.choices) > 1:
            usual = [name for name in LABEL_COLUMNS if name in self.choices]
            if len(usual) != 1:
                listed = " and ".join(f"'{name}'" for name in self.choices)
                raise DataError(
                    f"{path}: the choices {listed} could be the label; set label_column to one"
                )
            self._label = usual[0]

    def is_label(self, name: str) -> bool:
        """Whether choices are the label of the text."""
        return not self._label or name == self._label

    def text(self, data: dict[str, Any]) -> Any:
        """The text among the data of a task."""
        if self._text:
            return data.get(self._text)
        for name in TEXT_COLUMNS:
            if isinstance(data.get(name), str):
                return data[name]
        texts = [value for value in data.values() if isinstance(value, str)]
        if len(texts) > 1:
            raise DataError(
                f"{self._path}: the text could be each of {[*data]}; set text_column to one"
            )
        return texts[0] if texts else None


def _choice_names(task: dict[str, Any]) -> set[str]:
    """Names of the controls of a task whose results are certainly choices."""
    if "annotation_id" not in task:
        return {
            str(result.get("from_name"))
            for annotation in _annotations(task)
            for result in _results(annotation)
            if result.get("type") == "choices"
        }
    return {name for name, value in task.items() if _has_choices(value)}


def _has_choices(value: Any) -> bool:
    listed = value if isinstance(value, list) else [value]
    return any(isinstance(each, dict) and "choices" in each for each in listed)


def _plain_names(task: dict[str, Any], text: str) -> list[str]:
    """Names of the fields of a task in JSON-MIN with a text, without the text itself."""
    if "annotation_id" not in task:
        return []
    texts = {text or next((name for name in TEXT_COLUMNS if name in task), "")}
    left_out = texts | _ABOUT_MIN | _data_names(task)
    return [n for n, value in task.items() if isinstance(value, str) and n not in left_out]


def _data_names(task: dict[str, Any]) -> set[str]:
    """Names of fields that are certainly data, since they come before the task's id."""
    names = [*task]
    places = [names.index(name) if name in names else -1 for name in ("id", "annotator")]
    is_min = 0 <= places[0] < places[1] < names.index("annotation_id")  # CSV is sorted by name
    return {*names[: places[0]]} if is_min else set()


def _is_span(value: Any) -> bool:
    listed = value if isinstance(value, list) else []
    return any(isinstance(each, dict) and {*_ENTITIES} & each.keys() for each in listed)


def _annotations(task: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[Any] = next(
        (task[name] for name in _ANNOTATIONS if isinstance(task.get(name), list)), []
    )
    return [annotation for annotation in found if isinstance(annotation, dict)]


def _results(annotation: dict[str, Any]) -> list[dict[str, Any]]:
    results = annotation.get("result")
    return [each for each in results if isinstance(each, dict)] if isinstance(results, list) else []


def _whole_task(
    row: int, task: dict[str, Any], path: Path, reading: Reading, names: _Names
) -> Iterator[RawRow]:
    for part, kind in _IGNORED_PARTS.items():
        found = task.get(part)
        reading.leave(kind, path, row, len(found) if isinstance(found, list) else 0)
    kept = []
    annotations = _annotations(task)
    for annotation in annotations:
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            reading.leave("cancelled annotation", path, row)
        else:
            kept.append(annotation)
    if not kept:
        reading.leave("task without an annotation", path, row, 0 if annotations else 1)
        return
    truths = [annotation for annotation in kept if annotation.get("ground_truth")]
    if truths:
        reading.leave("annotation beside the ground truth", path, row, len(kept) - len(truths))
    data = task.get("data")
    text = names.text(data if isinstance(data, dict) else {})
    try:
        answers = [_answer(text, each, path, row, reading, names) for each in truths or kept]
    except BadSpanError as error:
        yield unfit(row, str(error))
        return
    yield from _one_row(row, text, answers, path, reading)


def _answer(
    text: Any, annotation: dict[str, Any], path: Path, row: int, reading: Reading, names: _Names
) -> Answer:
    labels: list[Any] = []
    entities: list[Entity] = []
    for result in _results(annotation):
        kind, value = str(result.get("type")), result.get("value")
        value = value if isinstance(value, dict) else {}
        if kind == "choices" and "start" in value:
            reading.leave("choice about a part of the text", path, row)
        elif kind == "choices" and names.is_label(str(result.get("from_name"))):
            labels += value.get("choices") or []
        elif kind in _ENTITIES and isinstance(text, str):
            entities.append(_entity(text, value))
        elif kind in _UNREAD:
            raise BadSpanError(f"a result of the type {kind} {_REMEDY}")
        else:
            reading.leave(f"result of the type {kind}", path, row)
    return labels[0] if len(labels) == 1 else labels or None, entities


def _entity(text: str, value: dict[str, Any]) -> Entity:
    """An entity; its offsets count characters of the shown text, thus of a text without markup."""
    covered = value.get("text") if isinstance(value.get("text"), str) else None
    label = next((value[name] for name in (*_ENTITIES, "htmllabels") if name in value), None)
    start, end = value.get("start"), value.get("end")
    if isinstance(start, str) and start.isdecimal() and isinstance(end, str) and end.isdecimal():
        start, end = int(start), int(end)
    elif isinstance(start, str):
        places = value.get("globalOffsets")
        if not isinstance(places, dict) and start == end == "/text()[1]":
            places = {"start": value.get("startOffset"), "end": value.get("endOffset")}
        if not isinstance(places, dict) or "<" in text or "&" in text:
            raise BadSpanError(f"the entity {label!r} at {start} {_REMEDY}")
        start, end = places.get("start"), places.get("end")
    return entity(text, start, end, label, covered=covered, unclear=True)


def _min_tasks(
    tasks: list[tuple[int, dict[str, Any]]], path: Path, reading: Reading, names: _Names
) -> Iterator[RawRow]:
    """Annotations of one task in JSON-MIN."""
    row, first = tasks[0]
    about = _ABOUT_MIN | {*names.choices}
    text = names.text({name: value for name, value in first.items() if name not in about})
    answers: list[Answer] = []
    for at, task in tasks:
        labels: list[Any] = []
        entities: list[Entity] = []
        data = _data_names(task)
        try:
            for name, value in task.items():
                if name in names.choices:
                    if names.is_label(name):
                        labels += _choices(value)
                    else:
                        reading.leave("result of the type choices", path, at)
                elif isinstance(value, list) and isinstance(text, str) and name not in data:
                    spans = [each for each in value if _is_span([each])]
                    entities += [_entity(text, each) for each in spans]
                    reading.leave("result of another type", path, at, len(value) - len(spans))
        except BadSpanError as error:
            yield unfit(at, str(error))
            return
        answers.append((labels[0] if len(labels) == 1 else labels or None, entities))
    yield from _one_row(row, text, answers, path, reading)


def _choices(value: Any) -> list[Any]:
    """The choices in a field of JSON-MIN."""
    if isinstance(value, dict):
        return list(value.get("choices") or [])
    return (
        [each for item in value for each in _choices(item)] if isinstance(value, list) else [value]
    )


def _one_row(
    row: int, text: Any, answers: list[Answer], path: Path, reading: Reading
) -> Iterator[RawRow]:
    """The row of a task whose annotations agree."""

    def content(answer: Answer) -> tuple[str, list[Any]]:
        spans = [(each["start"], each["end"], each["label"]) for each in answer[1]]
        return repr(answer[0]), sorted(spans)

    if any(content(answer) != content(answers[0]) for answer in answers[1:]):
        yield unfit(
            row,
            f"{len(answers)} annotations differ; keep one, or mark one as the ground truth",
        )
        return
    reading.leave("equal annotation of a task", path, row, len(answers) - 1)
    label, entities = answers[0]
    yield example(row, text, label, None, entities)
