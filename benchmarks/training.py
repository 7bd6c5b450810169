"""Training speed: ours against the naive way, on the demo's real text with the real teacher.

python benchmarks/training.py [--rounds N] [--quick]

Fine-tuning the teacher. Naive: the whole vocabulary, whose gradient and AdamW state are dense, and
batches in random order padded to max_seq_len. Ours: the trimmed vocabulary, batches of like length.

The five stages. Naive: each batch is tokenized anew and padded to max_seq_len, the teacher runs on
each batch of stages 1 to 3, and the student reads the padding; a plain loop without validation.
Ours: `distil_stage` as it is, with validation, after encoding and computing the signals once.

Both ways run the same networks and losses, and take turns.
"""

import argparse
import dataclasses
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import figure, machine, median_and_spread, print_line, print_table
from torch import Tensor, nn

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.encode import Encoded, concatenate
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.distillation.schedule import FIVE_STAGES, STAGES, Phase, phases_of
from saarthi_lib.distillation.signals import Signals, compute_signals
from saarthi_lib.distillation.stage import StageData, distil_stage, phase_loss
from saarthi_lib.models.student import Student, StudentShape
from saarthi_lib.models.teacher import Teacher, pretrained_teacher
from saarthi_lib.training.batches import Batch, BatchStream
from saarthi_lib.training.device import accelerator_device, set_up_process
from saarthi_lib.training.losses import head_losses
from saarthi_lib.training.optimizers import fine_tuning_optimizer, fine_tuning_settings

ROOT = Path(__file__).parent.parent
TEACHER_GOAL, STAGES_GOAL = 3.0, 5.0


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured: rounds, steps a round, rows of the subsets, naive batches, epochs."""

    rounds: int
    teacher_rounds: int
    teacher_steps: int
    transfer_rows: int
    labelled_rows: int
    naive_batches: int
    epochs: int


FULL = Size(3, 5, 6, 1536, 768, 2, 2)
QUICK = Size(1, 1, 1, 96, 32, 1, 1)


@dataclasses.dataclass(frozen=True)
class Setting:
    """The data, encoded, and what both ways share."""

    config: TrainConfig
    prepared: Prepared
    device: torch.device
    size: Size

    def teacher(self, whole_vocabulary: bool) -> Teacher:
        """A pretrained teacher with new heads, on the whole or the trimmed vocabulary."""
        kept, special = self.prepared.vocabulary["kept_ids"], self.prepared.vocabulary["special"]
        if whole_vocabulary:
            special = {role: kept[piece] for role, piece in special.items()}
            kept = list(range(_vocabulary_size(self.config.teacher_name)))
        labels = self.prepared.labels
        heads = len(labels.sequence), len(labels.token)
        dropout = self.config.teacher_dropout
        teacher, _ = pretrained_teacher(self.config.teacher_name, kept, special, *heads, dropout)
        return teacher.to(self.device)

    def student(self) -> Student:
        """A new student of the configured size."""
        labels, config = self.prepared.labels, self.config
        shape = StudentShape(
            vocabulary=len(self.prepared.vocabulary["kept_ids"]),
            embedding=config.student_word_emb_dim,
            hidden=config.student_lstm_dim,
            layers=config.student_lstm_layers,
            projection=384,
            sequence_labels=len(labels.sequence),
            token_labels=len(labels.token),
        )
        return Student(shape, config.student_lstm_dropout)

    def on_device(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def seconds(self, work: Callable[[], object]) -> float:
        """How long some work takes, the GPU's part included."""
        self._wait()
        start = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def repeat(step: Callable[[], None], count: int) -> None:
    """Take a step some times."""
    for _ in range(count):
        step()


def _vocabulary_size(teacher_name: str) -> int:
    from transformers import AutoConfig

    from saarthi_lib.models.sources import resolve_teacher

    return int(AutoConfig.from_pretrained(resolve_teacher(teacher_name)).vocab_size)


def padded_to_longest(batch: Batch, width: int) -> Batch:
    """A batch as the naive way has it: every row as wide as `width`."""
    by_piece = {"ids": 0, "first": False, "token_labels": -100}
    return {
        name: nn.functional.pad(tensor, (0, width - tensor.size(1)), value=by_piece[name])
        if name in by_piece
        else tensor
        for name, tensor in batch.items()
    }


def random_batches(encoded: Encoded, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of full batches in random order, for ever."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(len(encoded))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            yield order[start : start + batch_size]


def batches_for_ever(stream: BatchStream) -> Iterator[Batch]:
    """The batches of epoch after epoch."""
    while True:
        yield from stream


def fine_tuning(setting: Setting) -> None:
    """Measure and print the teacher's fine-tuning."""
    config, train = setting.config, setting.prepared.encoded("train")
    batch_size = config.teacher_batch_size
    kept = torch.tensor(setting.prepared.vocabulary["kept_ids"])
    naive_stream = BatchStream(train, batch_size)
    rows = random_batches(train, batch_size, config.seed)
    ours = batches_for_ever(BatchStream(train, batch_size, config.seed))

    def naive_batches() -> Iterator[Batch]:
        for chosen in rows:
            batch = padded_to_longest(naive_stream.batch(chosen), config.max_seq_len)
            yield {**batch, "ids": kept[batch["ids"]]}

    ways = {
        "naive": _fine_tuning_step(setting, setting.teacher(True), naive_batches()),
        "ours": _fine_tuning_step(setting, setting.teacher(False), ours),
    }
    for step in ways.values():
        step()  # the optimizer's state is made here
    taken: dict[str, list[float]] = {way: [] for way in ways}
    count = setting.size.teacher_steps
    for _ in range(setting.size.teacher_rounds):
        for way, step in ways.items():
            # The mean of some steps, because our batches are of different lengths.
            taken[way].append(setting.seconds(partial(repeat, step, count)) / count)
    middle = {way: statistics.median(values) for way, values in taken.items()}
    epoch_steps = -(-len(train) // batch_size)
    table = [
        [
            way,
            median_and_spread(values),
            figure(batch_size / middle[way]),
            figure(epoch_steps * middle[way]),
        ]
        for way, values in taken.items()
    ]
    header = ["way", "seconds a step", "sentences a second", "seconds an epoch"]
    pieces = f"{len(kept)} of {_vocabulary_size(config.teacher_name)} pieces"
    print_table(f"Fine-tuning the teacher ({config.teacher_name}, ours {pieces})", header, table)
    print_line(_verdict("teacher fine-tuning", middle["naive"] / middle["ours"], TEACHER_GOAL))


def _fine_tuning_step(
    setting: Setting, teacher: Teacher, stream: Iterator[Batch]
) -> Callable[[], None]:
    recipe = fine_tuning_settings(teacher.encoder.config, setting.config)
    optimizer, _ = fine_tuning_optimizer(teacher.train(), recipe, 1000)

    def step() -> None:
        batch = setting.on_device(next(stream))
        sequence, token, _ = teacher(batch["ids"], batch["lengths"])
        optimizer.zero_grad()
        head_losses(sequence, token, batch).backward()
        nn.utils.clip_grad_norm_(teacher.parameters(), recipe.clip_grad_norm or float("inf"))
        optimizer.step()

    return step


@dataclasses.dataclass(frozen=True)
class Subsets:
    """Part of the real data, and the texts of the transfer set's rows."""

    transfer: Encoded
    labelled: Encoded
    validation: Encoded
    transfer_texts: list[str]
    labelled_texts: list[str]


def subsets(setting: Setting) -> Subsets:
    """Rows of each split at random, validation in proportion to the labelled rows."""
    prepared, size = setting.prepared, setting.size
    train, validation = prepared.encoded("train"), prepared.encoded("validation")
    transfer = concatenate([train, prepared.encoded("transfer")])
    texts = [text for split in ("train", "transfer") for text in prepared.table(split)["text"]]
    generator = np.random.default_rng(0)

    def some(encoded: Encoded, count: int) -> np.ndarray:
        return generator.permutation(len(encoded))[:count]

    share = min(1.0, size.labelled_rows / len(train))
    rows = some(transfer, size.transfer_rows), some(train, size.labelled_rows)
    return Subsets(
        transfer=transfer.take(rows[0]),
        labelled=train.take(rows[1]),
        validation=validation.take(some(validation, round(share * len(validation)))),
        transfer_texts=[texts[row] for row in rows[0]],
        labelled_texts=[texts[row] for row in rows[1]],
    )


def five_stages(setting: Setting) -> None:
    """Measure a part of each stage both ways, and print the estimate for the whole job."""
    config, data = setting.config, subsets(setting)
    teacher = setting.teacher(False).eval()
    naive: dict[Phase, list[float]] = {phase: [] for phase in FIVE_STAGES}
    ours: dict[int, list[float]] = {stage: [] for stage in STAGES}
    signals: list[float] = []
    encoding: list[float] = []
    tokenizer = setting.prepared.tokenizer
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(setting.size.rounds):
            encoding.append(
                setting.seconds(
                    lambda: tokenizer.encode_texts(data.transfer_texts, config.max_seq_len)
                )
                / len(data.transfer)
            )
            signals.append(_signals(setting, teacher, data, Path(folder)) / len(data.transfer))
            for stage in STAGES:
                for phase in phases_of(stage):
                    naive[phase].append(_naive_sentence(setting, phase, teacher, data))
                ours[stage].append(_our_sentence(setting, stage, data, Path(folder)))
    _print_stages(setting, naive, ours, statistics.median(encoding), statistics.median(signals))


def _signals(setting: Setting, teacher: Teacher, data: Subsets, folder: Path) -> float:
    layers = setting.config.layers_to_distil

    def compute(encoded: Encoded, split: str) -> None:
        compute_signals(teacher, encoded, layers, folder, split, device=setting.device)

    compute(data.validation, "validation")
    seconds = setting.seconds(lambda: compute(data.transfer, "transfer"))
    teacher.to(setting.device)
    return seconds


def _our_sentence(setting: Setting, stage: int, data: Subsets, folder: Path) -> float:
    """Seconds for a sentence in one epoch of one phase, all that `distil_stage` does counted."""
    epochs = setting.size.epochs
    config = setting.config.model_copy(
        update={
            "student_epochs": epochs,
            "student_early_stopping_patience": epochs,
            "precision": "32",  # as the naive way
        }
    )
    stage_data = StageData(
        transfer=data.transfer,
        transfer_signals=Signals.load(folder, "transfer"),
        labelled=data.labelled,
        validation=data.validation,
        validation_signals=Signals.load(folder, "validation"),
    )
    student, labels = setting.student(), setting.prepared.labels
    seconds = setting.seconds(lambda: distil_stage(stage, student, stage_data, labels, config))
    phases = phases_of(stage)
    rows = len(data.labelled if not phases[0].reads_transfer else data.transfer)
    return seconds / (rows * len(phases) * epochs)


def _naive_sentence(setting: Setting, phase: Phase, teacher: Teacher, data: Subsets) -> float:
    """Seconds for a sentence of a phase in the naive loop."""
    config, student = setting.config, setting.student().to(setting.device).train()
    for part in student.parts():
        for parameter in student.parameters_of(part):
            parameter.requires_grad_(part in phase.trainable)
    trainable = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=config.student_learning_rate)
    of_labels = not phase.reads_transfer
    encoded, texts = (
        (data.labelled, data.labelled_texts) if of_labels else (data.transfer, data.transfer_texts)
    )
    tokenizer, stream = setting.prepared.tokenizer, BatchStream(encoded, len(encoded))
    batch_size = min(config.student_batch_size, len(encoded))
    order = random_batches(encoded, batch_size, config.seed)

    def step() -> None:
        rows = next(order)
        tokenizer.encode_texts([texts[row] for row in rows], config.max_seq_len)
        batch = setting.on_device(padded_to_longest(stream.batch(rows), config.max_seq_len))
        if not of_labels:
            batch |= _teacher_outputs(teacher, batch, config.layers_to_distil)
        whole = torch.full_like(batch["lengths"], config.max_seq_len)
        optimizer.zero_grad()
        sequence, token, projected = student(batch["ids"], whole)
        phase_loss(phase, sequence, token, projected, batch, config).backward()
        optimizer.step()

    step()
    count = setting.size.naive_batches
    return setting.seconds(lambda: repeat(step, count)) / (count * batch_size)


@torch.no_grad()
def _teacher_outputs(teacher: Teacher, batch: Batch, layers: Sequence[int]) -> dict[str, Tensor]:
    sequence, token, hidden = teacher(batch["ids"], batch["lengths"], layers)
    return {
        "teacher_sequence_logits": sequence,
        "teacher_token_logits": token,
        "teacher_hidden": hidden,
    }


def _print_stages(
    setting: Setting,
    naive: dict[Phase, list[float]],
    ours: dict[int, list[float]],
    encoding: float,
    signals: float,
) -> None:
    """Print a row a stage and the sums: sentences × phases × epochs × seconds a sentence."""
    rows_of = setting.prepared.summary["rows"]
    epochs = setting.config.student_epochs
    transfer = rows_of["train"] + rows_of["transfer"]
    table, totals = [], {"naive": 0.0, "ours": 0.0}
    for stage in STAGES:
        phases = phases_of(stage)
        rows = rows_of["train"] if not phases[0].reads_transfer else transfer
        by_round = [list(values) for values in zip(*(naive[p] for p in phases), strict=True)]
        naive_sentence = [statistics.mean(values) for values in by_round]
        seconds = {}
        for way, values in (("naive", naive_sentence), ("ours", ours[stage])):
            seconds[way] = rows * len(phases) * epochs * statistics.median(values)
            totals[way] += seconds[way]
        table.append(
            [
                f"stage {stage}: {rows} sentences × {len(phases)} phases × {epochs} epochs",
                median_and_spread([1 / value for value in naive_sentence]),
                median_and_spread([1 / value for value in ours[stage]]),
                figure(seconds["naive"]),
                figure(seconds["ours"]),
                f"{seconds['naive'] / seconds['ours']:.1f}",
            ]
        )
    for name, each in (("encoding, once", encoding), ("signals, once", signals)):
        seconds = transfer * each
        totals["ours"] += seconds
        cells = ["", figure(1 / each), "", figure(seconds), ""]
        table.append([f"{name}: {transfer} sentences", *cells])
    ratio = totals["naive"] / totals["ours"]
    sums = [figure(totals["naive"]), figure(totals["ours"]), f"{ratio:.1f}"]
    table.append(["sum", "", "", *sums])
    header = [
        *("step", "naive: sentences a second", "ours: sentences a second"),
        *("naive: seconds", "ours: seconds", "ratio"),
    ]
    print_table("The five stages, all epochs (no early stopping)", header, table)
    print_line(_verdict("five stages", ratio, STAGES_GOAL))


def _verdict(name: str, ratio: float, goal: float) -> str:
    reached = "reached" if ratio >= goal else "MISSED"
    return f"\n{name}: {ratio:.1f} times faster; goal at least {goal:.0f} times: {reached}"


@contextmanager
def gpu_busy(device: torch.device) -> Iterator[None]:
    """Print how busy the GPU was during the block, as nvidia-smi samples it."""
    if device.type != "cuda":
        print_line("no GPU")
        yield
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        sampler = subprocess.Popen([*query, "-lms", "200"], stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        print_line("GPU: nvidia-smi is not installed, so how busy it was is not known")
        yield
        return
    try:
        yield
    finally:
        sampler.terminate()
        shares = [float(line) for line in sampler.communicate()[0].split() if line.isdigit()]
        print_line(f"GPU busy, % of the time: {median_and_spread(shares) if shares else 'unknown'}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=FULL.rounds, help="of the stages (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="a small teacher, few rows, one round")
    options = parser.parse_args()
    overrides = {"teacher_name": "minilm", "fast_dev_run": True} if options.quick else {}
    config = TrainConfig.from_yaml(ROOT / "configs" / "intents.yaml", overrides)
    set_up_process(config)
    size = QUICK if options.quick else dataclasses.replace(FULL, rounds=options.rounds)
    print_line(f"{machine()}; {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        preprocessing = time.perf_counter()
        steps.preprocess(config, data)
        preprocessing = time.perf_counter() - preprocessing
        setting = Setting(config, Prepared(data), accelerator_device(config), size)
        print_line(f"preprocessing, once: {figure(preprocessing)} s")
        with gpu_busy(setting.device):
            fine_tuning(setting)
        with gpu_busy(setting.device):
            five_stages(setting)


if __name__ == "__main__":
    main()
