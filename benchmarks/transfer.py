"""The gain from the transfer set: students of few labelled rows, with and without it.

python benchmarks/transfer.py [--data FOLDER] [--sets …] [--methods] [--teacher minilm] [--seeds N]

For each set a teacher is fine-tuned, and then students are trained: from the labels alone (stages 4
and 5), distilled on the training text alone, and distilled on it and augmented sentences. With
`--methods` each method of augmentation has a student of its own, on as many sentences. Epochs are
chosen on validation; the test is asked once for each model. A seed decides the draw of the few
rows, the augmentation and the training.
"""

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, print_line, print_table

from saarthi_lib import logs, steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.encode import concatenate
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.distillation.schedule import STAGES
from saarthi_lib.distillation.signals import Signals
from saarthi_lib.distillation.stage import StageData, distil_stage
from saarthi_lib.evaluation.evaluate import evaluate_table
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.models.student import Student, StudentShape, initial_embedding, save_student
from saarthi_lib.models.teacher import load_teacher
from saarthi_lib.training.device import set_up_process

# A data set: its folder, and the fields of its configuration that differ from the common ones.
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "hint3_sofmattress": ("hint3_sofmattress", {"unknown_labels": "keep"}),
    "snips_en, 10 a class": ("snips_en", {"few_shot": 10}),
    "snips_en, 50 a class": ("snips_en", {"few_shot": 50}),
}
COMMON = {
    "task": "intent_classification",
    "root_output_path": "unused",
    "precision": 32,
    "language": "english",
    "teacher_epochs": 20,
    "teacher_early_stopping_patience": 5,
    "student_word_emb_dim": 100,
    "student_lstm_dim": 128,
    "student_epochs": 15,
    "student_batch_size": 128,
    "student_early_stopping_patience": 3,
}
# Without a transfer set an epoch is a few steps: such students get many more, in small batches.
SMALL = {"student_epochs": 150, "student_batch_size": 16, "student_early_stopping_patience": 20}
LABELS, TEXT, AUGMENTED = "labels alone", "distilled, training text", "distilled, augmented"


def main() -> None:
    """Train the models of each set and seed, and print a table a set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--methods", action="store_true", help="a student for each method too")
    parser.add_argument("--size", type=int, default=8000, help="augmented sentences of a student")
    parser.add_argument("--teacher", default="minilm")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the figures mean nothing")
    arguments = parser.parse_args()
    logs.configure()
    print_line(machine())
    for name in arguments.sets:
        folder, fields = SETS[name]
        if not (arguments.data / folder).is_dir():
            print_line(f"{name}: skipped, there is no {arguments.data / folder}")
            continue
        results: dict[str, list[float]] = {}
        for seed in range(1 if arguments.quick else arguments.seeds):
            config = TrainConfig.from_mapping(
                COMMON
                | fields
                | {
                    "input_path": str(arguments.data / folder),
                    "teacher_name": arguments.teacher,
                    "seed": 42 + seed,
                    "fast_dev_run": arguments.quick,
                    "augmentation_size": arguments.size
                    * (len(methods_of()) if arguments.methods else 1),
                }
            )
            with tempfile.TemporaryDirectory() as work:
                for model, score in measure(config, Path(work), arguments.size, arguments.methods):
                    results.setdefault(model, []).append(score)
                    print_line(f"{name}, seed {config.seed}: {model} {100 * score:.1f}")
        _print(name, results, arguments)


def methods_of() -> list[str]:
    """The methods of augmentation, as the configuration lists them."""
    return list(TrainConfig.model_fields["augmentation_methods"].default)


def measure(
    config: TrainConfig, work: Path, size: int, by_method: bool
) -> Iterator[tuple[str, float]]:
    """Yield the in-scope test accuracy of the teacher and of each student."""
    data, teacher, signals = work / "data", work / "teacher", work / "signals"
    steps.preprocess(config, data)
    steps.train_teacher(config, data, teacher)
    network = steps.TrainedNetwork("teacher", teacher)
    steps.export(config, data, network, work / "teacher-exported")
    yield "teacher", _accuracy(work / "teacher-exported" / "bundle", data)
    steps.teacher_signals(config, data, teacher, signals)

    methods = Prepared(data).table("transfer")["method"].to_numpy(dtype=str)
    generator = np.random.default_rng(config.seed)
    every = generator.permutation(len(methods))
    nothing = every[:0]
    small = config.model_copy(update=SMALL)
    arms: dict[str, tuple[Any, TrainConfig, tuple[int, ...]]] = {
        LABELS: (nothing, small, STAGES[3:]),
        TEXT: (nothing, small, STAGES),
    }
    if by_method:
        for method in sorted(set(methods)):
            rows = np.flatnonzero(methods == method)[:size]
            arms[f"{method} ({len(rows)})"] = (rows, config, STAGES)
    arms[AUGMENTED] = (every[:size], config, STAGES)
    for arm, (rows, settings, stages) in arms.items():
        student = _student(settings, data, teacher)
        set_up_process(settings)
        chosen = _stage_data(data, signals, np.sort(rows))
        for stage in stages:
            distil_stage(stage, student, chosen, Prepared(data).labels, settings)
        folder = work / "student"
        folder.mkdir(exist_ok=True)
        save_student(student, folder)
        trained = steps.TrainedNetwork("student", folder)
        steps.export(settings, data, trained, work / "exported")
        yield arm, _accuracy(work / "exported" / "bundle", data)


def _student(config: TrainConfig, data: Path, teacher: Path) -> Student:
    set_up_process(config)
    table = load_teacher(teacher).embedding_table
    shape = StudentShape(
        vocabulary=table.size(0),
        embedding=config.student_word_emb_dim,
        hidden=config.student_lstm_dim,
        layers=config.student_lstm_layers,
        projection=table.size(1),
        sequence_labels=len(Prepared(data).labels.sequence),
        token_labels=0,
    )
    student = Student(shape, config.student_lstm_dropout)
    with torch.no_grad():
        student.embedding.weight.copy_(initial_embedding(table, shape.embedding))
    return student


def _stage_data(data: Path, signals: Path, rows: np.ndarray) -> StageData:
    """All training rows, and some rows of the transfer set."""
    prepared = Prepared(data)
    train = prepared.encoded("train")
    whole = concatenate([train, prepared.encoded("transfer")])
    kept = np.concatenate([np.arange(len(train)), rows + len(train)])
    pieces = whole.pieces_of(kept)
    stored = Signals.load(signals, "transfer")
    return StageData(
        transfer=whole.take(kept),
        transfer_signals=dataclasses.replace(
            stored,
            hidden=stored.hidden[pieces],
            sequence_logits=stored.sequence_logits[kept],
            token_logits=stored.token_logits[pieces],
        ),
        labelled=train,
        validation=prepared.encoded("validation"),
        validation_signals=Signals.load(signals, "validation"),
    )


def _accuracy(bundle: Path, data: Path) -> float:
    """Accuracy on the test rows whose label can be learnt."""
    table = Prepared(data).table("test")
    known = table["label"].isin(list(Prepared(data).labels.sequence))
    metrics, _, _ = evaluate_table(Predictor.load(bundle), table[known].reset_index(drop=True))
    return float(metrics["main"])


def _print(name: str, results: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    if arguments.quick:
        print_line("one seed, a trial run: the figures mean nothing")
    teacher = statistics.mean(results["teacher"])
    rows = []
    for model, scores in results.items():
        mean = statistics.mean(scores)
        rows.append(
            [
                model,
                f"{100 * mean:.1f}",
                f"{100 * min(scores):.1f}-{100 * max(scores):.1f}",
                f"{100 * (mean - teacher):+.1f}",
            ]
        )
    seeds = len(results["teacher"])
    print_table(
        f"{name}: in-scope test accuracy, {arguments.teacher}, {seeds} seeds",
        ["model", "mean", "range", "against the teacher"],
        rows,
    )


if __name__ == "__main__":
    main()
