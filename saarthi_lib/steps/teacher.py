"""Data → teacher: fine-tuned, in one process or several, and tested."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import TrainingError
from saarthi_lib.logs import get_logger
from saarthi_lib.steps.data import clean_rows, prepared_data
from saarthi_lib.steps.network import TrainedNetwork, network_predictor
from saarthi_lib.steps.record import reads, recorded_step
from saarthi_lib.steps.start import FEWER_EPOCHS, EarlierNetwork
from saarthi_lib.steps.unfinished import checkpoint_of
from saarthi_lib.storage import copy_file, digest_file, read_json, write_json

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from saarthi_lib.data.preprocess import Prepared
    from saarthi_lib.evaluation.scores import Scores
    from saarthi_lib.models.teacher import Teacher
    from saarthi_lib.training.checkpoint import Checkpoint

logger = get_logger("steps")

HISTORY = "history.json"  # of a training
ANSWERS = "answers.parquet"  # answers of one model on the test split


@reads("run", "teacher")
def train_teacher(
    config: TrainConfig, data: Path, out: Path, loggers: Sequence["Logger"] = ()
) -> dict[str, float]:
    """Fine-tune the teacher; returns its score on validation.

    With `teacher_devices` above 1, torchrun starts the processes, without loggers. An interrupted
    training resumes after the last epoch whose state was written. Until training is finished, the
    state is kept in the folder or bucket that `SAARTHI_CHECKPOINTS` names; without one, next to
    `out`, and only with one process. If the data name an earlier run, its teacher is trained
    further; see `steps.start`.
    """
    if config.teacher_devices > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return _train_on_devices(config, data, out)
    with recorded_step("train teacher", config, out, data) as folder:
        checkpoints: list[Checkpoint] = []
        scores: list[float] = []
        earlier = _earlier_teacher(config, data)
        if earlier and earlier.is_usable:
            fewer = -(-config.teacher_epochs // FEWER_EPOCHS)
            shorter = config.model_copy(update={"teacher_epochs": fewer})
            scores = _members(shorter, data, out, folder, loggers, checkpoints, earlier)
            if not (scores and earlier.accept(folder)):
                scores = []
        if not scores:
            scores = _members(config, data, out, folder, loggers, checkpoints)
        if earlier:
            earlier.write(folder)
    if os.environ.get("RANK", "0") == "0":
        for checkpoint in checkpoints:
            checkpoint.remove()
    return {"validation_main": sum(scores) / len(scores)}


def _earlier_teacher(config: TrainConfig, data: Path) -> EarlierNetwork | None:
    """The teacher to train further, if there is one."""
    earlier = EarlierNetwork.of(config, data, "teacher")
    if earlier and earlier.is_usable:
        members = read_json(earlier.folder / "teacher.json").get("members", 1)
        if members != config.teacher_ensemble:
            earlier.refuse(f"teacher_ensemble {members} → {config.teacher_ensemble}")
        elif "TORCHELASTIC_RUN_ID" in os.environ:
            earlier.refuse("several processes cannot compare it")
    return earlier


def _members(
    config: TrainConfig,
    data: Path,
    out: Path,
    folder: Path,
    loggers: Sequence["Logger"],
    checkpoints: "list[Checkpoint]",
    earlier: EarlierNetwork | None = None,
) -> list[float]:
    """Fine-tune each teacher of an ensemble; returns their scores.

    Args:
        config: configuration.
        data: folder written by `preprocess`.
        out: folder of the step.
        folder: folder to write.
        loggers: Lightning loggers.
        checkpoints: gets the states of the trainings, to remove when the step is finished.
        earlier: teacher to train further; its scores are missing if its sizes differ.
    """
    from saarthi_lib.models.teacher import member_folder

    prepared = prepared_data(data)
    scores = []
    for member in range(config.teacher_ensemble):
        # Phases of training use consecutive seeds, so seeds of members must be far apart.
        seeded = config.model_copy(update={"seed": config.seed + 1000 * member})
        made = member_folder(folder, member)
        made.mkdir(exist_ok=True)
        part = f"teacher-{member}-further" if earlier else f"teacher-{member}"
        several = "TORCHELASTIC_RUN_ID" in os.environ
        checkpoint = checkpoint_of(config, out, part, data, in_store=several)
        if checkpoint:
            checkpoint.resume()
            checkpoints.append(checkpoint)
        weights = member_folder(earlier.folder, member) if earlier else None
        score = _fine_tuned(seeded, prepared, made, loggers, checkpoint, earlier, weights)
        if score is None:
            return []
        scores.append(score)
    return scores


def _train_on_devices(config: TrainConfig, data: Path, out: Path) -> dict[str, float]:
    """Fine-tune the teacher in several processes, with `saarthi_lib.steps.worker`."""
    with TemporaryDirectory(prefix="saarthi-") as scratch:
        settings = Path(scratch) / "config.json"
        write_json(settings, config.model_dump())
        arguments = ["--config", str(settings), "--data", str(data), "--out", str(out)]
        launch = ["-m", "torch.distributed.run", "--standalone"]
        launch += [
            "--nproc-per-node",
            str(config.teacher_devices),
            "-m",
            "saarthi_lib.steps.worker",
        ]
        ended = subprocess.run([sys.executable, *launch, *arguments])
    if ended.returncode:
        raise TrainingError(
            f"a process of the teacher's training on {config.teacher_devices} devices has failed "
            "(see the error above); fix the cause, and run the same command again"
        )
    scores: dict[str, float] = read_json(out / "scores.json")
    return scores


def _carry_over(teacher: "Teacher", earlier: EarlierNetwork, weights: Path) -> str:
    """Give a teacher the weights of an earlier one; returns the name of a tensor that differs."""
    from safetensors.torch import load_file

    from saarthi_lib.models.further import carry_over, name_of_embedding, rows_of_heads

    rows = rows_of_heads(earlier.rows_of_labels("sequence"), earlier.rows_of_labels("token"))
    rows[name_of_embedding(teacher)] = earlier.rows_of_tokens()
    return carry_over(teacher, load_file(weights / "teacher.safetensors"), rows)


def _pretrained(config: TrainConfig, prepared: "Prepared") -> "tuple[Teacher, int]":
    """The pretrained teacher on the trimmed vocabulary, and the parameters of its encoder."""
    from saarthi_lib.models.sources import weights_of
    from saarthi_lib.models.teacher import pretrained_teacher
    from saarthi_lib.training.device import set_up_process

    set_up_process(config)
    labels, vocabulary = prepared.labels, prepared.vocabulary
    teacher, whole = pretrained_teacher(
        config.teacher_name,
        vocabulary["kept_ids"],
        vocabulary["special"],
        len(labels.sequence),
        len(labels.token),
        config.teacher_dropout,
    )
    logger.info(
        "%s (%s): %.1f M parameters, %.1f M on the trimmed vocabulary",
        config.teacher_name,
        weights_of(config.teacher_name),
        whole / 1e6,
        sum(p.numel() for p in teacher.parameters()) / 1e6,
    )
    return teacher, whole


def _fine_tuned(
    config: TrainConfig,
    prepared: "Prepared",
    folder: Path,
    loggers: Sequence["Logger"],
    checkpoint: "Checkpoint | None",
    earlier: EarlierNetwork | None,
    weights: Path | None,
) -> float | None:
    """Fine-tune one teacher and write it; returns its main metric on validation.

    None: the earlier teacher has other sizes.
    """
    from saarthi_lib.models.sources import weights_of
    from saarthi_lib.models.teacher import save_teacher
    from saarthi_lib.training.teacher import fine_tune

    clean = clean_rows(config, prepared)
    teacher, whole = _pretrained(config, prepared)
    if earlier and weights and (wrong := _carry_over(teacher, earlier, weights)):
        earlier.refuse(f"its {wrong} has another size")
        return None
    result = fine_tune(
        teacher,
        prepared.encoded("train"),
        prepared.encoded("validation"),
        prepared.labels,
        config,
        loggers,
        clean,
        checkpoint,
        list(prepared.table("train")["lang"]),
        further=earlier is not None,
    )
    heads = sum(p.numel() for head in teacher.heads().values() for p in head.parameters())
    facts = {
        "teacher_name": config.teacher_name,
        "weights": weights_of(config.teacher_name),
        "parameters_as_loaded": config.teacher_ensemble * (whole + heads),
        "tokenizer": digest_file(prepared.folder / "tokenizer.json"),
        "members": config.teacher_ensemble,
    }
    save_teacher(teacher, folder, facts)
    write_json(folder / HISTORY, result.history)
    return float(result.history[result.best_epoch]["main"])


@reads("run")
def test_teacher(config: TrainConfig, data: Path, teacher: Path, out: Path) -> "Scores":
    """Evaluate the teacher on the test split, before distillation.

    Copies the files that the evaluation of a run needs of the teacher, which are small.
    """
    from saarthi_lib.evaluation.breakdown import answer_table
    from saarthi_lib.evaluation.evaluate import evaluate_table
    from saarthi_lib.models.teacher import SHAPE

    with recorded_step("test teacher", config, out, data, teacher) as folder:
        prepared = prepared_data(data)
        predictor = network_predictor(data, TrainedNetwork("teacher", teacher))
        metrics, given, predictions = evaluate_table(
            predictor, prepared.table("test"), prepared.table("train")["text"]
        )
        answers = answer_table(config.task, given, predictions)
        answers.to_parquet(folder / ANSWERS, index=False)
        facts = read_json(teacher / "teacher.json")
        metrics["parameters"] = facts["parameters_as_loaded"]
        if "weights" in facts:  # not in teachers of earlier versions
            metrics["weights"] = facts["weights"]
        # Size of the whole model on disk: its parameters in float32.
        metrics["size_bytes"] = 4 * metrics["parameters"]
        metrics["trimmed_size_bytes"] = (teacher / "teacher.safetensors").stat().st_size
        write_json(folder / "metrics.json", metrics)
        for name in (*SHAPE, HISTORY):
            copy_file(teacher / name, folder / name)
        logger.info("teacher on test: %.4f", metrics["main"])
        return metrics
