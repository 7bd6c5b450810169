"""Results of a run and answers of a bundle, as text."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from saarthi_lib.cli.console import console, plain, relative, say

if TYPE_CHECKING:
    from saarthi_lib.evaluation.scores import AbstentionScores, Metrics, Scores


def show_results(root: Path) -> None:
    """Print the results table, sample answers and next commands; omit conclusions in a trial."""
    from saarthi_lib.config import TRIAL
    from saarthi_lib.evaluation.scores import delivered as delivered_scores
    from saarthi_lib.evaluation.scores import read_metrics
    from saarthi_lib.layout import RunLayout

    layout = RunLayout.of(root)
    metrics = read_metrics(root)
    trial = metrics.get("trial", False)
    delivered = layout.delivered_bundle()
    console.print(_results_table(metrics, delivered.name.removeprefix("bundle-")))
    if not trial:
        if worse := metrics.get("baseline", {}).get("advice"):
            say(f"[yellow]{plain(worse)}[/]")
        best = delivered_scores(metrics)
        say(_main_line(best))
        say(_retention_line(metrics))
        say(calibration_line(best["calibration"]))
    for text, answer in _samples(layout.data, delivered):
        say(f"  {plain(text)}  [dim]→[/]  {answer_line(answer)}")
    say(f"report: {relative(layout.report)}")
    if trial:
        say(f"[bold yellow]{TRIAL}[/]")
    else:
        say(f"serve:  saarthi serve {relative(delivered)}")


def _main_line(scores: "Scores") -> str:
    """Main metric of the delivered model with related metrics, on one line."""
    parts = [f"main {scores['main']:.4f} on {scores['examples']} examples"]
    if "macro_f1" in scores:
        parts.append(f"macro F1 {scores['macro_f1']:.4f}")
    if unseen := scores.get("unseen"):
        main = f"main {unseen['main']:.4f} on " if unseen["examples"] else ""
        parts.append(f"{main}{unseen['examples']} that repeat no training text")
    return "delivered: " + "; ".join(parts)


def _retention_line(metrics: "Metrics") -> str:
    return (
        f"retention {100 * metrics['retention']:.1f}% of the teacher"
        + "".join(f", {100 * v:.1f}% {k}" for k, v in metrics["retention_by_language"].items())
        + f"; compression {metrics['compression']:.0f}x; speedup {metrics['speedup']:.0f}x"
    )


def _results_table(metrics: "Metrics", quantization: str) -> Table:
    """One row for each model, with metrics on test."""
    languages = metrics["languages"]
    kind = "trial run: " if metrics.get("trial") else ""
    table = Table(title=f"{kind}{metrics['task']}, {metrics['teacher']['examples']} test examples")
    for name in ("model", "main", *languages, "parameters", "size MB", "p50 ms", "p99 ms"):
        table.add_column(name, justify="left" if name == "model" else "right")
    rows = {
        "baseline": metrics.get("baseline"),  # missing in older runs
        "teacher": metrics["teacher"],
        **metrics["student"],
        quantization: metrics["quantized"],
    }
    for name, scores in rows.items():
        if scores is None:
            continue
        table.add_row(
            name,
            f"{scores['main']:.4f}",
            *(f"{scores['by_language'][language]['main']:.4f}" for language in languages),
            f"{scores['parameters'] / 1e6:.2f} M",
            f"{scores['size_bytes'] / 1e6:.2f}",
            f"{scores['latency_ms']['p50']:.3f}",
            f"{scores['latency_ms']['p99']:.3f}",
        )
    return table


def calibration_line(found: "AbstentionScores") -> str:
    """Metrics of `evaluation.selective_metrics` in one line."""
    parts = [
        f"calibration error {found['ece']:.3f}",
        f"area under risk-coverage {found['aurc']:.3f}",
    ]
    if found["threshold"] is not None:
        parts.append(
            f"at the threshold {found['threshold']:.3f}: {100 * found['coverage']:.1f}% answered, "
            f"{100 * found['risk']:.1f}% of these wrong"
        )
        if "expected_coverage" in found:  # missing in older bundles
            low, high = found["expected_coverage"]
            parts[-1] += f" ({100 * low:.0f} to {100 * high:.0f}% answered were expected)"
        if "lost" in found:  # missing in older runs
            parts[-1] += f", {100 * found['lost']:.1f}% of the right answers withheld"
    if "out_of_scope" in found:
        metrics = found["out_of_scope"].items()
        named = (f"{name.replace('_', ' ')} {value:.3f}" for name, value in metrics)
        parts.append("with the texts out of scope: " + ", ".join(named))
    return "; ".join(parts)


def _samples(data: Path, delivered: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """One test text in each of two languages, with answers of the delivered bundle."""
    from saarthi_lib.data.preprocess import Prepared
    from saarthi_lib.inference.predictor import Predictor

    if not data.exists():
        return []
    table = Prepared(data).table("test").drop_duplicates("lang").head(2)
    answers = Predictor.load(delivered).predict(list(table["text"]), list(table["lang"]))
    return [(answer.text, answer.to_dict()) for answer in answers]


def answer_line(answer: Mapping[str, Any]) -> str:
    """An answer of a predictor in one line."""
    parts = []
    if "label" in answer:
        choices = answer.get("top_k") or [answer]
        parts += [f"[bold]{plain(c['label'])}[/] ({c['probability']:.3f})" for c in choices]
    for found in (*answer.get("entities", ()), *answer.get("tokens", ())):
        parts.append(f"{plain(found['text'])} [bold]{plain(found['label'])}[/]")
    if answer["abstained"]:
        parts.append(f"[yellow]abstained: {answer['reason'].replace('_', ' ')}[/]")
    return ", ".join(parts) or "no entities"
