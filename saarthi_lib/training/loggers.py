"""Experiment tracking by Lightning's own loggers, one for the teacher and for each stage."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from torch import nn

from saarthi_lib.errors import ConfigError

TRAINABLE = "trainable/"  # before the names of a network's parts


def make_loggers(
    kinds: Sequence[str], folder: Path, run: str, parts: Sequence[str]
) -> dict[str, list[Logger]]:
    """Loggers for the parts of a run.

    Args:
        kinds: of `KINDS`.
        folder: below which those that write files do; MLflow writes to MLFLOW_TRACKING_URI where
            that is set, or to SQLite.
        run: the experiment's name where a logger has experiments.
        parts: what is logged apart, such as `teacher`.

    Returns:
        A list of loggers for each part, as `train` takes them.

    Raises:
        ConfigError: a logger's package is not installed.
    """
    return {part: [_make(kind, folder, run, part) for kind in kinds] for part in parts}


def _mlflow(folder: Path, run: str, part: str) -> Logger:
    folder.mkdir(parents=True, exist_ok=True)
    # MLflow 3 does not write to plain files any more.
    here = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
    uri = os.environ.get("MLFLOW_TRACKING_URI", here)
    return MLFlowLogger(run, run_name=part, tracking_uri=uri)


def _wandb(folder: Path, run: str, part: str) -> Logger:
    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    return WandbLogger(name=part, project=run, save_dir=folder / "wandb", reinit="create_new")


KINDS: dict[str, Callable[[Path, str, str], Logger]] = {
    "tensorboard": lambda folder, run, part: TensorBoardLogger(folder, name=part),
    "csv": lambda folder, run, part: CSVLogger(folder / "csv", name=part),
    "mlflow": _mlflow,
    "wandb": _wandb,
}


def _make(kind: str, folder: Path, run: str, part: str) -> Logger:
    try:
        return KINDS[kind](folder, run, part)
    except ImportError as error:
        raise ConfigError(
            f"loggers: {kind} needs a package that is not installed (pip install {kind}), or leave "
            f"{kind} out: {error}"
        ) from error


def log_settings(
    loggers: Sequence[Logger], phase: str, network: nn.Module, settings: Mapping[str, Any]
) -> None:
    """Log the configuration, and what a phase trains and what it leaves frozen."""
    parts = trainable_parameters(network)
    # MLflow takes letters, digits and few signs in a name.
    name = re.sub(r"\W+", "_", phase).strip("_")
    told = {
        key: value if isinstance(value, int | float | str) else str(value)
        for key, value in settings.items()
    }
    for way, wanted in (("trained", True), ("frozen", False)):
        chosen = [part.removeprefix(TRAINABLE) for part, n in parts.items() if (n > 0) == wanted]
        told[f"{name}/{way}"] = ", ".join(chosen) or "nothing"
    for logger in loggers:
        logger.log_hyperparams(told)


def trainable_parameters(network: nn.Module) -> dict[str, float]:
    """How many parameters of each part of a network are trained; 0 is frozen.

    A part without parameters, such as dropout or a head that the task does not have, is left out.
    """
    return {
        f"{TRAINABLE}{name}": float(sum(p.numel() for p in part.parameters() if p.requires_grad))
        for name, part in network.named_children()
        if any(p.numel() for p in part.parameters())
    }
