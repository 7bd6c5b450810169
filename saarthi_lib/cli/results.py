"""Results of a run and answers of a bundle, as text."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from saarthi_lib.cli.console import console, plain, relative, say, show_table, table
from saarthi_lib.reports.page import count, percent

if TYPE_CHECKING:
    from saarthi_lib.evaluation.scores import AbstentionScores, Metrics


def show_results(root: Path) -> None:
    """Print the results of a run, and its summary as the last line; a trial has no conclusions."""
    from saarthi_lib.evaluation.scores import delivered as delivered_scores
    from saarthi_lib.evaluation.scores import read_metrics
    from saarthi_lib.evaluation.summary import summarize
    from saarthi_lib.layout import RunLayout, read_record

    layout = RunLayout.of(root)
    metrics = read_metrics(root)
    trial = metrics.get("trial", False)
    delivered = layout.delivered_bundle()
    record = read_record(root)
    precision = record.get("config", {}).get("quantization")
    for made in _results_tables(metrics, precision):
        show_table(made)
    if not trial:
        for line in (
            *_details(metrics),
            calibration_line(delivered_scores(metrics)["calibration"]),
        ):
            console.print(line)
    for text, answer in _samples(layout.data, delivered):
        say(f"  {plain(text)}  [dim]→[/]  {answer_line(answer)}")
    if saved := record.get("saved_seconds"):
        earlier = Path(record["config"]["start_from"])
        seconds = round(sum(saved.values()))
        less = f"{seconds} s" if seconds > 0 else f"nothing ({-seconds} s more)"
        say(f"saved:  {less}, since training started from {relative(earlier)}")
    say(f"report: {relative(layout.report)}")
    if not trial:
        say(f"serve:  saarthi serve {relative(delivered)}")
        if advice := metrics.get("baseline", {}).get("advice"):
            console.print(plain(advice), style="yellow")
    console.print(plain(summarize(metrics, precision)), style="bold yellow" if trial else "bold")


def _results_tables(metrics: "Metrics", precision: str | None) -> list[Table]:
    """Metrics on test: one row for each model, and one row for each of several languages."""
    from saarthi_lib.evaluation.metrics import MAIN_METRIC
    from saarthi_lib.evaluation.summary import TASKS, models

    metric, named = MAIN_METRIC[metrics["task"]], models(metrics, precision)
    heads = (metric, "parameters", "MB", "p50 ms", "p99 ms")
    kind = "trial run: " if metrics.get("trial") else ""
    title = f"{kind}{TASKS[metrics['task']]}, {metrics['teacher']['examples']} test texts"
    rows = table("model", *heads, numbers=heads, title=title)
    for name, scores in named.items():
        rows.add_row(
            plain(name),
            percent(scores["main"]),
            count(scores["parameters"]),
            _megabytes(scores["size_bytes"]),
            f"{scores['latency_ms']['p50']:.2f}",
            f"{scores['latency_ms']['p99']:.2f}",
        )
    if len(metrics["languages"]) < 2:
        return [rows]
    compared = [name for name in named if not name.startswith("stage")]
    by_language = table(f"{metric} by language", *compared, numbers=compared)
    for language in metrics["languages"]:
        parts = (named[name]["by_language"].get(language) for name in compared)
        by_language.add_row(
            plain(language), *(percent(part["main"]) if part else "–" for part in parts)
        )
    return [rows, by_language]


def _megabytes(size: int) -> str:
    """Bytes in MB with one decimal; small sizes keep two digits instead of 0.0."""
    return f"{size / 1e6:.1f}" if size >= 1e5 else f"{size / 1e6:.2g}"


def _details(metrics: "Metrics") -> Iterator[str]:
    """Metrics of the delivered model that the tables lack."""
    from saarthi_lib.evaluation.metrics import MAIN_METRIC
    from saarthi_lib.evaluation.scores import delivered

    metric, scores = MAIN_METRIC[metrics["task"]], delivered(metrics)
    yield (
        f"retention: {percent(metrics['retention'])} of the teacher's {metric}, with "
        f"{metrics['compression']:.0f} times fewer parameters"
    )
    if "macro_f1" in scores:
        yield f"macro F1: {percent(scores['macro_f1'])}"
    if unseen := scores.get("unseen"):
        found = f", {metric} {percent(unseen['main'])}" if unseen["examples"] else ""
        yield f"new texts: {unseen['examples']} that repeat no training text{found}"


def calibration_line(found: "AbstentionScores") -> str:
    """Metrics of `evaluation.selective_metrics` in one line."""
    parts = [
        f"calibration error {found['ece']:.3f}, area under risk and coverage {found['aurc']:.3f}"
    ]
    if "coverage" in found:
        own = found.get("language_thresholds", {})  # missing in older runs
        thresholds = [f"threshold {_threshold(found['threshold'])}"]
        thresholds += [f"{value:.3f} for {plain(language)}" for language, value in own.items()]
        parts.append(
            f"at the {', '.join(thresholds)}, {percent(found['coverage'])} of the texts are "
            f"answered and {percent(found['risk'])} of these are wrong"
        )
        if "expected_coverage" in found:  # missing in older bundles
            low, high = found["expected_coverage"]
            parts[-1] += f" ({100 * low:.0f} to {100 * high:.0f}% answered were expected)"
        if "lost" in found:  # missing in older runs
            parts[-1] += f", {percent(found['lost'])} of the right answers are withheld"
    if "out_of_scope" in found:
        metrics = found["out_of_scope"].items()
        named = (f"{name.replace('_', ' ')} {value:.3f}" for name, value in metrics)
        parts.append("with the texts out of scope: " + ", ".join(named))
    return "; ".join(parts)


def _threshold(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


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
        reason, threshold = answer["reason"].replace("_", " "), _threshold(answer["threshold"])
        compared = f"confidence {answer['confidence']:.3f}, threshold {threshold}"
        parts.append(f"[yellow]abstained: {reason} ({compared})[/]")
    return ", ".join(parts) or "no entities"
