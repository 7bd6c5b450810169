"""Measure training speed against a naive loop, on the demonstration data with a real teacher.

python benchmarks/training.py [--rounds N] [--quick]

Fine-tuning. Naive: the whole vocabulary, whose gradients and AdamW states are dense, and batches in
random order, padded to max_seq_len. Ours: the trimmed vocabulary, and batches of similar length.

Five stages. Naive: texts are tokenized in each batch and padded to max_seq_len, the teacher reads
each batch of stages 1 to 3, and the student reads the padding, without validation. Ours:
`distil_stage` with validation, after encoding the texts and computing the signals once.

Both ways train the same networks with the same losses in single precision, and take turns.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from time import perf_counter

import numpy as np
import torch
from common import (
    ROOT,
    begin,
    median_and_range,
    median_ratio,
    parser_of,
    print_line,
    print_table,
    rounded,
)
from torch import nn
from transformers import AutoConfig

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.encode import Encoded, concatenate
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.distillation.schedule import Phase, phases_of
from saarthi_lib.distillation.signals import Signals, compute_signals
from saarthi_lib.distillation.stage import StageData, distil_stage, phase_loss
from saarthi_lib.layout import STAGES
from saarthi_lib.models.sources import resolve_teacher
from saarthi_lib.models.student import Student, StudentShape
from saarthi_lib.models.teacher import Teacher, pretrained_teacher
from saarthi_lib.training.batches import Batch, BatchStream
from saarthi_lib.training.device import accelerator_device, set_up_process
from saarthi_lib.training.losses import head_losses
from saarthi_lib.training.optimizers import fine_tuning_optimizer, fine_tuning_settings

STEPS = 6  # of fine-tuning in a turn
TRANSFER_ROWS, LABELLED_ROWS = 1536, 768  # rows of the stages in a turn
EPOCHS = 2  # of our stages, and batches of the naive ones
PADDING = {"ids": 0, "first": False, "token_labels": -100}


@dataclass(frozen=True)
class Setting:
    """Data and networks of both ways."""

    config: TrainConfig
    data: Prepared
    device: torch.device

    def teacher(self, *, whole_vocabulary: bool) -> Teacher:
        """A pretrained teacher with new heads."""
        kept, special = self.data.vocabulary["kept_ids"], self.data.vocabulary["special"]
        if whole_vocabulary:
            special = {role: kept[token] for role, token in special.items()}
            kept = list(range(self.vocabulary_size()))
        heads = len(self.data.labels.sequence), len(self.data.labels.token)
        name, dropout = self.config.teacher_name, self.config.teacher_dropout
        teacher, _ = pretrained_teacher(name, kept, special, *heads, dropout)
        return teacher.to(self.device)

    def vocabulary_size(self) -> int:
        """Number of tokens of the whole vocabulary."""
        source = resolve_teacher(self.config.teacher_name)
        return int(AutoConfig.from_pretrained(source).vocab_size)

    def student(self) -> Student:
        """A new student of the configured size."""
        shape = StudentShape(
            vocabulary=len(self.data.vocabulary["kept_ids"]),
            embedding=self.config.student_word_emb_dim,
            hidden=self.config.student_lstm_dim,
            layers=self.config.student_lstm_layers,
            projection=384,
            sequence_labels=len(self.data.labels.sequence),
            token_labels=len(self.data.labels.token),
        )
        return Student(shape, self.config.student_lstm_dropout)

    def batches(self, encoded: Encoded, size: int) -> Iterator[Batch]:
        """Batches of the naive way: in random order, padded to max_seq_len."""
        stream, generator = BatchStream(encoded, size), np.random.default_rng(self.config.seed)
        while True:
            order = generator.permutation(len(encoded))
            for start in range(0, len(order) - size + 1, size):
                batch = stream.batch(order[start : start + size])
                width = self.config.max_seq_len - batch["ids"].size(1)
                for name, value in PADDING.items():
                    batch[name] = nn.functional.pad(batch[name], (0, width), value=value)
                yield {name: tensor.to(self.device) for name, tensor in batch.items()}


def seconds_of(work: Callable[[], object], times: int = 1) -> float:
    """Mean seconds of some work, GPU time included."""
    start = perf_counter()
    for _ in range(times):
        work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (perf_counter() - start) / times


def fine_tuning(setting: Setting, rounds: int, count: int) -> None:
    """Measure steps of the teacher's fine-tuning both ways, and print the table."""
    config, train = setting.config, setting.data.encoded("train")
    kept = torch.tensor(setting.data.vocabulary["kept_ids"], device=setting.device)

    def naive_batches() -> Iterator[Batch]:
        for batch in setting.batches(train, config.teacher_batch_size):
            yield {**batch, "ids": kept[batch["ids"]]}

    def our_batches() -> Iterator[Batch]:
        stream = BatchStream(train, config.teacher_batch_size, config.seed)
        while True:
            for batch in stream:
                yield {name: tensor.to(setting.device) for name, tensor in batch.items()}

    ways = {
        "naive": _fine_tuning_step(setting, naive_batches(), whole_vocabulary=True),
        "ours": _fine_tuning_step(setting, our_batches(), whole_vocabulary=False),
    }
    for step in ways.values():
        step()  # creates the optimizer's state
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, step in ways.items():
            taken[way].append(seconds_of(step, count))
    tokens = f"{len(kept)} of {setting.vocabulary_size()} tokens"
    rows = [
        [way, median_and_range(values), rounded(config.teacher_batch_size / median(values))]
        for way, values in taken.items()
    ]
    rows.append(["times faster", median_ratio(taken["naive"], taken["ours"]), ""])
    title = f"Fine-tuning the teacher ({config.teacher_name}, ours {tokens})"
    print_table(title, ["way", "seconds a step", "sentences a second"], rows)


def _fine_tuning_step(
    setting: Setting, batches: Iterator[Batch], *, whole_vocabulary: bool
) -> Callable[[], None]:
    teacher = setting.teacher(whole_vocabulary=whole_vocabulary).train()
    recipe = fine_tuning_settings(teacher.encoder.config, setting.config)
    optimizer, _ = fine_tuning_optimizer(teacher, recipe, 1000)

    def step() -> None:
        batch = next(batches)
        sequence, token, _ = teacher(batch["ids"], batch["lengths"])
        optimizer.zero_grad()
        head_losses(sequence, token, batch).backward()
        nn.utils.clip_grad_norm_(teacher.parameters(), recipe.clip_grad_norm or float("inf"))
        optimizer.step()

    return step


@dataclass(frozen=True)
class Subsets:
    """Random rows of each split, and the texts of the transfer rows."""

    transfer: Encoded
    labelled: Encoded
    validation: Encoded
    texts: list[str]

    @classmethod
    def of(cls, data: Prepared, share: float) -> "Subsets":
        """Draw the rows; validation has the same share as the labelled rows."""
        train, validation = data.encoded("train"), data.encoded("validation")
        transfer = concatenate([train, data.encoded("transfer")])
        texts = [text for split in ("train", "transfer") for text in data.table(split)["text"]]
        draw = np.random.default_rng(0).permutation
        rows = draw(len(transfer))[: round(share * TRANSFER_ROWS)]
        labelled = draw(len(train))[: round(share * LABELLED_ROWS)]
        count = round(len(validation) * len(labelled) / len(train))
        return cls(
            transfer.take(rows),
            train.take(labelled),
            validation.take(draw(len(validation))[:count]),
            [texts[row] for row in rows],
        )

    def rows_of(self, phase: Phase) -> Encoded:
        """Rows that a phase reads."""
        return self.transfer if phase.reads_transfer else self.labelled


def five_stages(setting: Setting, rounds: int, share: float) -> None:
    """Measure a part of each stage both ways, and print the estimate for all rows and epochs."""
    config, subsets = setting.config, Subsets.of(setting.data, share)
    teacher = setting.teacher(whole_vocabulary=False).eval()
    naive: dict[int, list[float]] = defaultdict(list)  # seconds of a sentence, by stage
    ours: dict[int, list[float]] = defaultdict(list)
    once: list[float] = []  # seconds of a sentence to encode it, and to compute its signals
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            seconds = seconds_of(partial(_encode, setting, subsets.texts))
            seconds += _signals(setting, teacher, subsets, Path(folder))
            once.append(seconds / len(subsets.texts))
            for stage in STAGES:
                phases = phases_of(stage)
                naive[stage].append(mean(_naive(setting, p, teacher, subsets) for p in phases))
                ours[stage].append(_ours(setting, stage, subsets, Path(folder)))
    counts = setting.data.summary["rows"]
    transfer = counts["train"] + counts["transfer"]
    rows, sums = [], [0.0, transfer * median(once)]
    for stage in STAGES:
        phases = phases_of(stage)
        count = transfer if phases[0].reads_transfer else counts["train"]
        sentences = count * len(phases) * config.student_epochs
        totals = [sentences * median(values[stage]) for values in (naive, ours)]
        sums = [total + own for total, own in zip(sums, totals, strict=True)]
        name = (
            f"stage {stage}: {count} rows × {len(phases)} phases × {config.student_epochs} epochs"
        )
        rows.append([name, *map(rounded, totals), median_ratio(naive[stage], ours[stage])])
    rows.append(
        [f"encoding and signals: {transfer} rows", "", rounded(transfer * median(once)), ""]
    )
    rows.append(["sum", *map(rounded, sums), rounded(sums[0] / sums[1])])
    header = ["step", "naive, seconds", "ours, seconds", "times faster"]
    print_table("The five stages, all epochs", header, rows)


def _encode(setting: Setting, texts: list[str]) -> None:
    setting.data.tokenizer.encode_texts(texts, setting.config.max_seq_len)


def _signals(setting: Setting, teacher: Teacher, subsets: Subsets, folder: Path) -> float:
    """Compute the signals; returns the seconds for the transfer rows."""
    layers = setting.config.layers_to_distil

    def compute(encoded: Encoded, split: str) -> None:
        compute_signals(teacher, encoded, layers, folder, split, device=setting.device)

    compute(subsets.validation, "validation")
    seconds = seconds_of(partial(compute, subsets.transfer, "transfer"))
    teacher.to(setting.device)
    return seconds


def _ours(setting: Setting, stage: int, subsets: Subsets, folder: Path) -> float:
    """Seconds of a sentence in one epoch of one phase of `distil_stage`."""
    fields = {"student_epochs": EPOCHS, "student_early_stopping_patience": EPOCHS}
    config = setting.config.model_copy(update=fields)
    stage_data = StageData(
        transfer=subsets.transfer,
        transfer_signals=Signals.load(folder, "transfer"),
        labelled=subsets.labelled,
        validation=subsets.validation,
        validation_signals=Signals.load(folder, "validation"),
    )
    student, labels, phases = setting.student(), setting.data.labels, phases_of(stage)
    seconds = seconds_of(lambda: distil_stage(stage, student, stage_data, labels, config))
    return seconds / (len(subsets.rows_of(phases[0])) * len(phases) * EPOCHS)


def _naive(setting: Setting, phase: Phase, teacher: Teacher, subsets: Subsets) -> float:
    """Seconds of a sentence of a phase in the naive loop."""
    config, student = setting.config, setting.student().to(setting.device).train()
    for part in student.parts():
        for parameter in student.parameters_of(part):
            parameter.requires_grad_(part in phase.trainable)
    trainable = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=config.student_learning_rate)
    encoded = subsets.rows_of(phase)
    size = min(config.student_batch_size, len(encoded))
    batches = setting.batches(encoded, size)

    def step() -> None:
        _encode(setting, subsets.texts[:size])
        batch = next(batches)
        if phase.reads_transfer:
            with torch.no_grad():
                outputs = teacher(batch["ids"], batch["lengths"], config.layers_to_distil)
            names = ("teacher_sequence_logits", "teacher_token_logits", "teacher_hidden")
            batch |= dict(zip(names, outputs, strict=True))
        whole = torch.full_like(batch["lengths"], config.max_seq_len)
        optimizer.zero_grad()
        sequence, token, projected = student(batch["ids"], whole)
        phase_loss(phase, sequence, token, projected, batch, config).backward()
        optimizer.step()

    step()
    return seconds_of(step, EPOCHS) / size


def main() -> None:
    """Measure, and print the tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    options = begin(parser)
    rounds = 1 if options.quick else options.rounds
    fields = {"precision": 32, "distillation_stages": list(STAGES)}
    if options.quick:
        fields |= {"teacher_name": "minilm", "fast_dev_run": True}
    fields["teacher_layer_to_distil"] = 6  # stage 1 is timed, which intents leave out
    config = TrainConfig.from_yaml(ROOT / "configs" / "intents.yaml", fields)
    set_up_process(config)
    print_line(f"{torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        steps.preprocess(config, data)
        resolved = steps.resolved(config, data)
        setting = Setting(resolved, Prepared(data), accelerator_device(config))
        fine_tuning(setting, rounds, 1 if options.quick else STEPS)
        five_stages(setting, rounds, 1 / 16 if options.quick else 1.0)


if __name__ == "__main__":
    main()
