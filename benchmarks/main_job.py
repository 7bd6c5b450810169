"""The main job's figures: what `make run` measured, as the README's table.

make run && .venv/bin/python benchmarks/main_job.py [RUN_FOLDER]
"""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from saarthi_lib.storage import read_json


def table(metrics: dict[str, Any]) -> str:
    """The content of `metrics.json` as a Markdown table and a line of ratios."""
    languages = metrics["languages"]
    head = ["model", metrics["task"], *languages, "parameters", "MB on disk", "p50 ms", "p99 ms"]
    lines = [" | ".join(head), " | ".join(["---"] + ["--:"] * (len(head) - 1))]
    models = {"teacher": metrics["teacher"], **metrics["student"], "int8": metrics["quantized"]}
    for name, scores in models.items():
        figures = [
            name.replace("_", " "),
            f"{100 * scores['main']:.1f}",
            *(f"{100 * scores['by_language'][language]['main']:.1f}" for language in languages),
            f"{scores['parameters'] / 1e6:.2f} M",
            f"{scores['size_bytes'] / 1e6:.1f}",
            f"{scores['latency_ms']['p50']:.2f}",
            f"{scores['latency_ms']['p99']:.2f}",
        ]
        lines.append(" | ".join(figures))
    by_language = ", ".join(
        f"{100 * kept:.1f}% in {language}"
        for language, kept in metrics["retention_by_language"].items()
    )
    lines = [f"| {line} |" for line in lines]
    return "\n".join(
        [
            *lines,
            "",
            f"{metrics['teacher']['examples']} test examples. The int8 student keeps "
            f"{100 * metrics['retention']:.1f}% of the teacher ({by_language}) with "
            f"{metrics['compression']:.0f} times fewer parameters, and answers "
            f"{metrics['speedup']:.0f} times faster at batch 1.",
        ]
    )


def main() -> None:
    """Print the table of a run."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/intents")
    if not (root / "metrics.json").is_file():
        sys.exit(f"{root}/metrics.json: not there; call 'make run' first")
    Console(width=10_000, highlight=False).print(table(read_json(root / "metrics.json")))


if __name__ == "__main__":
    main()
