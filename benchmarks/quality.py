"""What is kept of the teacher: sets x models, the main metric, parameters, size and latency.

python benchmarks/quality.py [--data FOLDER] [--sets …] [--seeds 3] [--jobs 2] [--work FOLDER]
    [--ablation] [--set FIELD=VALUE …]
python benchmarks/quality.py --data FOLDER --sets another_set --set language=english

Sets are the folders of `--data`. The first row tells the task: a label, tags of words, or both. The
language, where neither files nor names have it, is given.

For each set and seed: a teacher, a student of the labels alone, one distilled with all losses in
one stage, one distilled in five stages, and that one in int8. All choices are made on validation;
the test is read once a model. Where a set has no test file its validation file is the test, and a
validation split is cut from train. With `--ablation` the five stages stand beside themselves
without each stage. One label for a text leaves out the first of the five.

Sets and seeds are trained in processes of their own, `--jobs` at once; all models are measured when
no training runs any longer. Finished steps lie in the work folder and are taken from there when the
benchmark runs again.
"""

import argparse
import csv
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from common import machine, print_line, print_table
from contenders import XLMR, sized_teacher

from saarthi_lib import logs, steps
from saarthi_lib.bundle import ONNX_MODEL
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.formats import Columns, raw_rows, recognise
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.data.read import ReadOptions, find_splits, name_tells, read_table
from saarthi_lib.distillation.schedule import STAGES, phases_of
from saarthi_lib.errors import DataError, SaarthiError
from saarthi_lib.evaluation.evaluate import evaluate_table, one_thread
from saarthi_lib.evaluation.latency import latency_at_batch_1
from saarthi_lib.evaluation.selective import out_of_scope_metrics
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.models.student import load_student
from saarthi_lib.models.teacher import ServedTeacher
from saarthi_lib.storage import digest_json, read_json, write_json
from saarthi_lib.sweep.execute import threads_of
from saarthi_lib.tasks import OUTSIDE, has_token_head

COMMON: dict[str, Any] = {
    "root_output_path": "unused",
    "unknown_labels": "keep",
    "max_seq_len": 128,
    "max_quantisation_loss": 1.0,  # here it is measured, not refused
    "student_preset": "small",
    # None, so that the cosine schedule comes to its end: frame accuracy on hinglish_top's
    # validation rows is 64.8, and 63.2 where a phase ends after 3 epochs without a better one.
    "student_early_stopping_patience": 60,
}
# What is said to a bot is shorter than what was written, and many questions are not for this bot:
# as benchmarks/abstention.py chose the share that is answered.
SPOKEN: dict[str, dict[str, Any]] = {
    "intent_classification": {"max_seq_len": 32, "abstention_coverage": 0.9},
    "joint": {"max_seq_len": 64},
}
MULTILINGUAL = {"teacher_name": "multilingual-e5-small"}
# Three of the small English teacher are of fewer parameters than the multilingual one. Together,
# after 3 epochs each, their frame accuracy on snips_en's validation rows is 90.2 (three seeds); of
# one, after 5 epochs, 89.6 (two).
ENGLISH = {"teacher_name": "minilm", "teacher_ensemble": 3}
# Of many spoken rows, twice as wide, and more text to learn it from; neither does it alone. Frame
# accuracy on snips_en's validation rows was 89.5, and 88.7 without, the teachers' 90.2 (three
# seeds, before augmentation had its method "vocabulary"; with it 89.1 of 90.0). Where it cannot
# tell, as hint3_sofmattress's 32 rows cannot, the student stays small. Twice the further pieces
# are for the teachers, which had 91.0 with them (three seeds, before the order of tags was
# counted; then 91.4).
MANY_ROWS = 5_000
LARGER = {
    "augmentation_size": 40_000,
    "vocabulary_extra_pieces": 8_000,
    "student_epochs": 10,
    "student_lstm_dim": 256,
    "student_lstm_dropout": 0.1,
    "student_ema_decay": 0.99,
}
# What files do not say, of sets whose names begin so.
UNTOLD: dict[str, dict[str, Any]] = {
    "hint3": {"language": "english"},
    "ud_pud": {"group_column": "sent_id"},
}
TEACHER, LABELS, JOINT, FIVE, INT8 = (
    "teacher",
    "labels alone",
    "one stage, all losses",
    "five stages",
    "five stages, int8",
)
OWN, BEST = "its own", "the test's best"  # thresholds
METRICS = ("main", "validation", "accuracy", "span_f1", "frame_accuracy", "token_accuracy")
# Without a transfer set an epoch is a few steps: such a student gets many more, in small batches.
ARMS: dict[str, dict[str, Any]] = {
    LABELS: {
        "distillation_schedule": "labels_only",
        "student_batch_size": 32,
        "student_epochs": 60,
    },
    JOINT: {"distillation_schedule": "joint"},
    FIVE: {},
}
# Its single phase has as many epochs as four phases of the five stages.
JOINT_EPOCHS = 4


def main() -> None:
    """Train and evaluate what has not been yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", help="folders of --data; all of them by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--jobs", type=int, default=min(2, threads_of(1)), help="at once; they share the cores"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/quality"))
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="FIELD=VALUE", help="of the configuration, all sets"
    )
    parser.add_argument("--ablation", action="store_true", help="the five stages without each")
    parser.add_argument("--quick", action="store_true", help="the figures mean nothing")
    arguments = parser.parse_args()
    if min(arguments.seeds, arguments.jobs) < 1:
        parser.error("--seeds and --jobs are at least 1")
    logs.configure()
    print_line(machine())
    if arguments.quick:
        print_line("a trial run: the figures mean nothing")
    trials: dict[str, list[Trial]] = {}
    for name, folder in sets_in(arguments.data, arguments.sets).items():
        try:
            source = with_test_split(folder, arguments.work)
            trials[name] = [
                Trial(name, seed, config_of(name, given_by(arguments, source, seed)), arguments)
                for seed in range(1 if arguments.quick else arguments.seeds)
            ]
        except SaarthiError as error:
            sys.exit(f"{name}: {error}")
    failed = train_all([trial for each in trials.values() for trial in each], arguments.jobs)
    kept: list[float] = []
    for name, of_set in trials.items():
        if name in failed:
            continue
        results: dict[str, list[dict[str, Any]]] = {}
        for trial in of_set:
            for model, figures in trial.run().items():
                results.setdefault(model, []).append(figures)
        print_set(name, results, arguments.data / "hint3_peers.csv")
        kept.append(mean_of(results[INT8], "main") / (mean_of(results[TEACHER], "main") or 1.0))
    if kept:
        print_line(f"\nkept of the teacher, mean of {len(kept)} sets: {statistics.mean(kept):.1%}")
    if failed:
        sys.exit(f"not trained, for the errors above: {', '.join(sorted(failed))}")


def train_all(trials: "Sequence[Trial]", jobs: int) -> set[str]:
    """Train what the trials lack, each in a process; one that fails does not stop the others.

    Returns:
        The sets of those that failed.
    """
    # Read where torch is loaded, which is in the processes; OpenMP threads that spin for long at
    # each barrier are slow where cores are shared.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_of(jobs)))
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    failed = set()
    # A fresh process each, so that a trial is the same whichever was before it.
    with ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(train_one, trial): trial for trial in trials}
        for future, trial in running.items():
            if (error := future.exception()) is not None:
                failed.add(trial.name)
                logs.get_logger("quality").error("%s: %s", trial.title, error, exc_info=error)
    return failed


def train_one(trial: "Trial") -> None:
    """Train and export all models of a trial; its log says in each line whose it is."""
    logs.configure(of=trial.title)
    replace(trial, measures=False).run()


@dataclass
class Trial:
    """One set and seed in its own work folder."""

    name: str
    seed: int
    config: TrainConfig
    arguments: argparse.Namespace
    measures: bool = True  # otherwise `run` makes the models and gives no figures

    @property
    def title(self) -> str:
        return f"{self.name}, seed {self.seed}"

    @property
    def root(self) -> Path:
        name = f"seed-{self.seed}-{digest_of(self.config)}"
        work: Path = self.arguments.work
        return work / self.name / name

    def run(self) -> dict[str, dict[str, Any]]:
        """The figures of each model, which is made where it has not been."""
        arms = ARMS | (ablation(self.config) if self.arguments.ablation else {})
        data = self._made("data", steps.preprocess, self.config)
        prepared = Prepared(data)
        config = self.config.model_copy(update=fine_tuning(self.config, prepared))
        teacher = self._made("teacher", steps.train_teacher, config, data)
        signals = self._made("signals", steps.teacher_signals, config, data, teacher)
        found = {
            TEACHER: self._measured(TEACHER, of_teacher, data, teacher)
            | self._measured(XLMR, of_xlmr, data)
        }
        share = share_of_epochs(prepared)
        for arm, fields in arms.items():
            settings = config.model_copy(update=fields)
            phases = JOINT_EPOCHS if arm == JOINT else 1
            epochs = {"student_epochs": phases * round(settings.student_epochs * share)}
            settings = settings.model_copy(update=epochs)
            student: Path | None = None
            differs = differs_at(fields, config)
            for stage in STAGES:
                from_teacher = (settings, stage, data, teacher, signals, student)
                like = FIVE if stage < differs else arm
                student = self._made(f"{like}/stage_{stage}", steps.distil, *from_teacher)
            assert student is not None
            made = self._made(f"{arm}/exported", steps.export, settings, data, student, "student")
            found[arm] = self._measured(arm, of_bundle, made / "bundle", data, student)
            if arm == FIVE:
                given = (settings, data, student, "student")
                made = self._made(f"{arm}/quantised", steps.quantise, *given)
                found[INT8] = self._measured(INT8, of_bundle, made / "bundle", data, student)
        return found

    def _made(self, name: str, step: Callable[..., Any], *given: Any) -> Path:
        """The folder of a step, from an earlier call where that finished."""
        folder = self.root / name.replace(",", "").replace(" ", "-")
        if not (folder / "step.json").is_file():
            print_line(f"{self.title}: {name}")
            step(*given, folder)
        return folder

    def _measured(self, model: str, of: Callable[..., Any], *given: Any) -> dict[str, Any]:
        if not self.measures:
            return {}
        file = self.root / "figures" / f"{model.replace(',', '').replace(' ', '-')}.json"
        if not file.is_file():
            file.parent.mkdir(exist_ok=True)
            write_json(file, of(*given))
        figures: dict[str, Any] = read_json(file)
        return figures


def given_by(arguments: argparse.Namespace, source: Path, seed: int) -> dict[str, Any]:
    """The fields of the configuration that the command line gives for a set's files and a seed."""
    given: dict[str, Any] = {"seed": 42 + seed, "input_path": str(source)}
    if arguments.quick:
        given |= {"fast_dev_run": True, "augmentation_size": 64}
    for pair in arguments.set:
        field, _, value = pair.partition("=")
        given[field] = yaml.safe_load(value)
    return given


def sets_in(data: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """The folders of sets, all or those of these names; one that is not there is told."""
    if names is None and data.is_dir():
        names = sorted(folder.name for folder in data.glob("*/"))
    folders = [data] if names is None else [data / name for name in names]
    for folder in folders:
        if not folder.is_dir():
            print_line(f"{folder.name}: skipped, there is no {folder}")
    return {folder.name: folder for folder in folders if folder.is_dir()}


def told_by(name: str) -> dict[str, Any]:
    """What the name of a set's folder tells: a language that it has in full, and the rest."""
    _, language = name_tells(name)
    untold = (fields for kind, fields in UNTOLD.items() if name.startswith(kind))
    return ({"language": language} if language else {}) | next(untold, {})


def task_of(folder: str | Path) -> str:
    """The task of a set, by its first row: whether it has a label, tags of words, or both.

    Raises:
        DataError: there is no train file, it cannot be read, or its first row has neither.
    """
    file = find_splits(folder)["train"][0].path
    kind = recognise(file, Columns())
    if kind == "conllu":
        return "pos"
    row = None
    with suppress(DataError):  # there need not be a column of labels
        row = next(raw_rows(file, kind, Columns(sequence=True)), None)
    if row is None or (row.label is None and row.tags is None):
        row = next(raw_rows(file, kind, Columns()), None)
    if row is None or (row.label is None and row.tags is None):
        raise DataError(
            f"{file}: its first row has no label and no tags; give the task (--set task=…)"
        )
    if row.tags is None:
        return "intent_classification"
    if row.label is not None:
        return "joint"
    named = all(isinstance(tag, str) and tag != OUTSIDE and "-" not in tag for tag in row.tags)
    return "pos" if row.tags and named else "ner"


def config_of(name: str, given: dict[str, Any]) -> TrainConfig:
    """The configuration of a set by its task, languages and rows, with what is given over it."""
    fields = told_by(name) | given
    if "task" not in fields:
        fields["task"] = task_of(fields["input_path"])
    config = TrainConfig.from_mapping(COMMON | fields)
    files = find_splits(config.input_path)["train"]
    train = pd.concat([read_table(file, ReadOptions.of(config)) for file in files])
    recipe = dict(SPOKEN.get(config.task, {}))
    if "teacher_name" not in fields:  # one that is given is not tripled
        recipe |= ENGLISH if set(train["lang"]) == {"english"} else MULTILINGUAL
    if config.task in SPOKEN and len(train) > MANY_ROWS:
        recipe |= LARGER
    return TrainConfig.from_mapping(COMMON | recipe | fields)


def stages_of(config: TrainConfig) -> set[int]:
    """Those that the five stages have for a task, or that are given."""
    given, tags = config.distillation_stages, has_token_head(config.task)
    return {stage for stage in STAGES if phases_of(stage, stages=given, tags=tags)}


def ablation(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """The schedule without each stage, or with one that the task leaves out."""
    kept = stages_of(config)
    arms: dict[str, dict[str, Any]] = {
        f"{'without' if stage in kept else 'with'} stage {stage}": {
            "distillation_stages": sorted(kept ^ {stage})
        }
        for stage in STAGES
    }
    return arms | {"without unfreezing": {"distillation_schedule": "no_unfreezing"}}


def differs_at(fields: dict[str, Any], config: TrainConfig) -> int:
    """The stage from which an arm is another than the five stages: what is before is theirs."""
    if fields.keys() != {"distillation_stages"}:
        return STAGES[0]
    return min(stages_of(config) ^ set(fields["distillation_stages"]))


def fine_tuning(config: TrainConfig, prepared: Prepared) -> dict[str, int]:
    """Some 20,000 sentences to learn from, in 5 to 12 epochs; many rows in larger batches.

    Of several teachers, 3 epochs may do for each: averaged, they need not be at their best.
    """
    rows = prepared.summary["rows"]["train"]
    fewest = 5 if config.teacher_ensemble == 1 else 3
    epochs = min(12, max(fewest, round(20_000 / rows)))
    return {"teacher_epochs": epochs, "teacher_batch_size": 32 if rows > MANY_ROWS else 16}


def share_of_epochs(prepared: Prepared) -> float:
    """Of much text to learn from, counted in pieces, a student is given fewer epochs."""
    pieces = sum(prepared.encoded(split).lengths.sum() for split in ("train", "transfer"))
    return min(1.0, 375_000 / pieces)


def of_teacher(data: Path, teacher: Path) -> dict[str, Any]:
    """Figures of the teacher: its parameters as published, its time on one thread."""
    predictor = steps.network_predictor(data, teacher, "teacher")
    parameters = read_json(teacher / "teacher.json")["parameters_as_loaded"]
    size = {"parameters": parameters, "size_bytes": 4 * parameters}
    return figures_of(predictor, data, calls=50) | size


def of_xlmr(data: Path) -> dict[str, Any]:
    """The time of an encoder of XLM-R base's size, random weights, on the teacher's pieces."""
    prepared = Prepared(data)
    vocabulary = prepared.vocabulary
    pieces = len(vocabulary["kept_ids"])
    network = sized_teacher(XLMR, vocabulary["special"], prepared.labels, pieces)
    predictor = steps.predictor_of(data, ServedTeacher(network))
    return {"xlmr_ms": latency_of(predictor, prepared.table("test"), calls=50)}


def of_bundle(bundle: Path, data: Path, student: Path) -> dict[str, Any]:
    """Figures of a student as it is served."""
    network = load_student(student)
    size = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "size_bytes": (bundle / ONNX_MODEL).stat().st_size,
    }
    return figures_of(Predictor.load(bundle), data, calls=500) | size


def figures_of(predictor: Predictor, data: Path, calls: int) -> dict[str, Any]:
    """Metrics on validation and test, by language, and milliseconds at batch 1."""
    prepared = Prepared(data)
    scores = {
        split: evaluate_table(predictor, prepared.table(split)) for split in ("validation", "test")
    }
    table = prepared.table("test")
    latency = latency_of(predictor, table, calls)
    metrics, given, predictions = scores["test"]
    figures = {**metrics, "validation": scores["validation"][0]["main"], "latency_ms": latency}
    known = prepared.labels.sequence
    if predictor.task == "intent_classification" and not table["label"].isin(list(known)).all():
        confidence = np.array([prediction.confidence for prediction in predictions])
        silent = [prediction.abstained for prediction in predictions]
        found = scope_metrics(list(table["label"]), given.labels, confidence, silent, known)
        # What the teacher knows, and the student keeps, is of the labels that can be learnt.
        figures |= {"scope": found, "main": found[OWN]["best_in_scope_accuracy"]}
    return figures


def latency_of(predictor: Predictor, table: pd.DataFrame, calls: int) -> dict[str, float]:
    """Milliseconds at batch 1 on one thread, over the texts of a table."""
    with one_thread():
        return latency_at_batch_1(predictor, list(table["text"]), calls=calls)


def scope_metrics(
    gold: Sequence[str],
    given: Sequence[str],
    confidence: npt.NDArray[np.floating],
    silent: Sequence[bool],
    known: Sequence[str],
) -> dict[str, dict[str, float]]:
    """HINT3's metrics at the model's own threshold, and at the test's best one by MCC.

    The authors report every system at the latter, which nobody can choose who has not the test.
    """
    at_each = [
        out_of_scope_metrics(gold, given, (confidence < threshold).tolist(), known)
        for threshold in np.unique(confidence)
    ]
    best = max(at_each, key=lambda found: found["mcc"])
    return {OWN: out_of_scope_metrics(gold, given, silent, known), BEST: best}


def with_test_split(folder: Path, work: Path) -> Path:
    """The folder itself, or one in which its validation files are the test where it has none."""
    splits = find_splits(folder)
    if "test" in splits or "validation" not in splits:
        return folder
    splits["test"] = splits.pop("validation")
    renamed = work / "input" / folder.name
    renamed.mkdir(parents=True, exist_ok=True)
    for split, files in splits.items():
        for number, file in enumerate(files):
            parts = [split, file.language, str(number) if number else ""]
            shutil.copyfile(
                file.path, renamed / f"{'-'.join(filter(None, parts))}{file.path.suffix}"
            )
    return renamed


def digest_of(config: TrainConfig) -> str:
    """What a folder of finished steps is for: another configuration has another."""
    return digest_json(config.model_dump(exclude={"input_path"}))[:8]


def mean_of(results: Sequence[dict[str, Any]], figure: str) -> float:
    """Of all seeds."""
    return statistics.mean(result[figure] for result in results)


def p50_of(results: Sequence[dict[str, Any]], time: str) -> float:
    """The median of all seeds."""
    return statistics.median(result[time]["p50"] for result in results)


def print_set(name: str, results: dict[str, list[dict[str, Any]]], peers: Path) -> None:
    """The table of a set: a row a model, means over the seeds with their range."""
    seeds = len(results[TEACHER])
    teacher = mean_of(results[TEACHER], "main")
    metrics = [m for m in METRICS if m in results[TEACHER][0]]
    teacher_ms, xlmr_ms = (p50_of(results[TEACHER], time) for time in ("latency_ms", "xlmr_ms"))
    rows = []
    for model, figures in results.items():
        latency = p50_of(figures, "latency_ms")
        rows.append(
            [
                model,
                *(points([result[metric] for result in figures]) for metric in metrics),
                f"{mean_of(figures, 'main') / (teacher or 1.0):.1%}",
                f"{mean_of(figures, 'parameters') / 1e6:.2f} M",
                f"{mean_of(figures, 'size_bytes') / 1e6:.2f}",
                f"{latency:.2f}",
                f"{teacher_ms / latency:.0f}",
                f"{xlmr_ms / latency:.0f}",
            ]
        )
    faster = ("times faster", f"than {XLMR}")
    header = ["model", *metrics, "kept", "parameters", "MB", "p50 ms", *faster]
    examples = results[TEACHER][0]["examples"]
    print_table(f"{name}: {examples} test examples, seeds: {seeds}", header, rows)
    if "scope" in results[TEACHER][0]:
        print_scope(name, results, peers)


def print_scope(name: str, results: dict[str, list[dict[str, Any]]], peers: Path) -> None:
    """The table of what is out of scope, with other systems' published figures where there are."""
    columns = list(results[TEACHER][0]["scope"][OWN])
    rows = [
        [
            model,
            threshold,
            *(points([each["scope"][threshold][column] for each in figures]) for column in columns),
        ]
        for model, figures in results.items()
        for threshold in (OWN, BEST)
    ]
    if name == "hint3_sofmattress" and peers.is_file():
        with peers.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows.append([row["system"], BEST, *(points([float(row[c])]) for c in columns)])
    header = ["model", "threshold", *(column.replace("_", " ") for column in columns)]
    print_table(f"{name}: with what is out of scope", header, rows)


def points(values: Sequence[float]) -> str:
    """The mean in points, and the range of several seeds."""
    mean = f"{100 * statistics.mean(values):.1f}"
    spread = f" ({100 * min(values):.1f}-{100 * max(values):.1f})"
    return mean + (spread if len(values) > 1 else "")


if __name__ == "__main__":
    main()
