"""The page of explained answers, and its texts and shades."""

from pathlib import Path
from typing import Any

import saarthi_lib
from saarthi_lib.evaluation.explanation.attribution import Method
from saarthi_lib.evaluation.explanation.rows import ExplainedAnswer, ExplainedRow, Explanations
from saarthi_lib.reports.page import write_page
from saarthi_lib.tasks import bio_spans

ROWS_ON_A_PAGE = 300
METHOD_NAMES: dict[str, str] = {
    "integrated_gradients": "integrated gradients",
    "leave_one_out": "leave one out",
}


def write_explanations(path: Path, explanations: Explanations, title: str) -> None:
    """Write explanations as one self-contained HTML page, atomically.

    The page shows the first `ROWS_ON_A_PAGE` rows.
    """
    rows, metrics, about = explanations
    write_page(
        path,
        "explanations.html.j2",
        title=title,
        about=about,
        version=saarthi_lib.__version__,
        rows=[_shown(row) for row in rows[:ROWS_ON_A_PAGE]],
        left_out=max(0, len(rows) - ROWS_ON_A_PAGE),
        metrics=[(_metric_name(name), value) for name, value in metrics.items()],
    )


def _metric_name(name: str) -> str:
    for method, words in METHOD_NAMES.items():
        name = name.replace(method, words)
    return name.replace("_", " ")


def _shown(row: ExplainedRow) -> dict[str, Any]:
    """Row with shaded words, ready for the template."""
    return {
        "text": row["text"],
        "lang": row["lang"],
        "gold": gold_text(row),
        "right": is_right(row),
        "answers": [
            {
                "model": model.capitalize(),
                "about": about_text(row, answer),
                "answer": answer["answer"],
                "probability": answer["probability"],
                "methods": [_shaded(row, answer, method) for method in answer["scores"]],
            }
            for model, answers in row["models"].items()
            for answer in answers
        ],
    }


def is_right(row: ExplainedRow) -> bool | None:
    """Whether the first model's explained answers match gold; None without gold."""
    label, tags = row["gold"]["label"], row["gold"]["tags"]
    if label is None and tags is None:
        return None
    for answer in next(iter(row["models"].values())):
        if answer["about"] is None:
            if label != answer["answer"]:
                return False
        elif tags is not None:
            gold = [tags[word] for word in answer["about"]]
            if gold != answer["answer"].split(" "):
                return False
    return True


def gold_text(row: ExplainedRow) -> str:
    """Gold answer as readable text."""
    label, tags, words = row["gold"]["label"], row["gold"]["tags"], row["words"]
    parts = [] if label is None else [label]
    for start, end, kind in bio_spans(tags or []):
        parts.append(f"{kind}: {' '.join(words[start:end])}")
    if tags is not None and not parts:
        answers = next(iter(row["models"].values()))
        concerned = {word for answer in answers for word in answer["about"] or ()}
        parts = [f"{words[word]}: {tags[word]}" for word in sorted(concerned)]
    return ", ".join(parts)


def about_text(row: ExplainedRow, answer: ExplainedAnswer) -> str:
    """Words that an answer concerns, joined by spaces; empty for a label."""
    return " ".join(row["words"][word] for word in answer["about"] or ())


def shades(row: ExplainedRow, answer: ExplainedAnswer, method: Method) -> list[tuple[str, float]]:
    """Parts of the text with their shade, from -1 (against the answer) to 1 (for it)."""
    scores = answer["scores"][method]
    most = max((abs(score) for score in scores), default=0.0) or 1.0
    parts: list[tuple[str, float]] = []
    position = 0
    for (start, end), score in zip(row["spans"], scores, strict=True):
        parts += [(row["text"][position:start], 0.0), (row["text"][start:end], score / most)]
        position = end
    return [part for part in [*parts, (row["text"][position:], 0.0)] if part[0]]


def _shaded(row: ExplainedRow, answer: ExplainedAnswer, method: Method) -> dict[str, Any]:
    ranked = sorted(zip(answer["scores"][method], row["words"], strict=True), key=lambda p: -p[0])
    return {
        "name": METHOD_NAMES[method],
        "parts": [
            (text, "for" if strength > 0 else "against", round(100 * abs(strength)))
            for text, strength in shades(row, answer, method)
        ],
        "scores": ", ".join(f"{word} {score:+.2f}" for score, word in ranked),
    }
