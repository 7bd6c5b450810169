"""The page of explained answers, and its texts and shades."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import saarthi_lib
from saarthi_lib.evaluation.attribution import METHODS, Method
from saarthi_lib.reports.page import write_page
from saarthi_lib.tasks import bio_spans

ROWS_ON_A_PAGE = 300
MODEL_NAMES = {"student": "Student", "teacher": "Teacher"}
METHOD_NAMES = {
    "integrated_gradients": "integrated gradients",
    "leave_one_out": "leave one out",
}


def write_explanations(
    path: Path,
    described: Sequence[dict[str, Any]],
    measured: dict[str, dict[str, float]],
    *,
    title: str,
    about: str,
    methods: Sequence[Method] = METHODS,
) -> None:
    """Write explanations as one self-contained HTML page.

    Args:
        path: file to write, atomically.
        described: rows from `explain_rows`; the page shows the first `ROWS_ON_A_PAGE`.
        measured: metrics from `figures`; may be empty.
        title: title of the page.
        about: sentence that describes the page.
        methods: attribution methods, in display order.
    """
    write_page(
        path,
        "explanations.html.j2",
        title=title,
        about=about,
        version=saarthi_lib.__version__,
        rows=[_shown(row, methods) for row in described[:ROWS_ON_A_PAGE]],
        left_out=max(0, len(described) - ROWS_ON_A_PAGE),
        figures=[(_figure_name(name), value) for name, value in measured.items()],
        method_names=METHOD_NAMES,
    )


def _figure_name(name: str) -> str:
    for method, words in METHOD_NAMES.items():
        name = name.replace(method, words)
    return name.replace("_", " ")


def _shown(row: dict[str, Any], methods: Sequence[Method]) -> dict[str, Any]:
    """Row with shaded words, ready for the template."""
    return {
        "text": row["text"],
        "lang": row["lang"],
        "gold": gold_text(row),
        "right": is_right(row),
        "answers": [
            {
                "model": MODEL_NAMES.get(model, model),
                "about": about_text(row, answer),
                "answer": answer["answer"],
                "probability": answer["probability"],
                "methods": [
                    {"name": METHOD_NAMES[method], **_shaded(row, answer, method)}
                    for method in methods
                ],
            }
            for model, answers in row["models"].items()
            for answer in answers
        ],
    }


def is_right(row: dict[str, Any]) -> bool | None:
    """Whether the first model's explained answers match gold; None without gold."""
    gold = row["gold"]
    if gold["label"] is None and gold["tags"] is None:
        return None
    for answer in next(iter(row["models"].values())):
        if answer["about"] is None:
            if gold["label"] != answer["answer"]:
                return False
        elif gold["tags"] is not None:
            said = answer["answer"].split(" ")
            if [gold["tags"][word] for word in answer["about"]] != said:
                return False
    return True


def gold_text(row: dict[str, Any]) -> str:
    """Gold answer as readable text."""
    gold = row["gold"]
    parts = [] if gold["label"] is None else [gold["label"]]
    for start, end, label in bio_spans(gold["tags"] or []):
        parts.append(f"{label}: {' '.join(row['words'][start:end])}")
    if gold["tags"] is not None and not parts:
        wrong = {word for a in next(iter(row["models"].values())) for word in a["about"] or ()}
        parts = [f"{row['words'][word]}: {gold['tags'][word]}" for word in sorted(wrong)]
    return ", ".join(parts)


def about_text(row: dict[str, Any], answer: dict[str, Any]) -> str:
    """Words that an answer concerns, joined by spaces; empty for a label."""
    return " ".join(row["words"][word] for word in answer["about"] or ())


def shades(row: dict[str, Any], answer: dict[str, Any], method: str) -> list[tuple[str, float]]:
    """Parts of the text with their shade, from -1 (against the answer) to 1 (for it)."""
    scores = answer["scores"][method]
    most = max((abs(score) for score in scores), default=0.0) or 1.0
    parts: list[tuple[str, float]] = []
    position = 0
    for (start, end), score in zip(row["spans"], scores, strict=True):
        if start > position:
            parts.append((row["text"][position:start], 0.0))
        parts.append((row["text"][start:end], score / most))
        position = end
    parts.append((row["text"][position:], 0.0))
    return [part for part in parts if part[0]]


def _shaded(row: dict[str, Any], answer: dict[str, Any], method: Method) -> dict[str, Any]:
    scores = answer["scores"][method]
    ranked = sorted(range(len(scores)), key=lambda word: -scores[word])
    told = [f"{row['words'][word]} {scores[word]:+.2f}" for word in ranked]
    return {
        "parts": [
            (text, "for" if strength > 0 else "against", round(100 * abs(strength)))
            for text, strength in shades(row, answer, method)
        ],
        "told": ", ".join(told),
    }
