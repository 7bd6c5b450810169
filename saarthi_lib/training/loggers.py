"""Experiment tracking by Lightning's loggers, with a run for the teacher and for each stage."""

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

TRAINABLE = "trainable/"  # prefix of the names of a network's parts


def make_loggers(
    kinds: Sequence[str], folder: Path, run: str, parts: Sequence[str]
) -> dict[str, list[Logger]]:
    """Loggers for the parts of a run.

    Args:
        kinds: names in `KINDS`.
        folder: folder for files; MLflow writes to MLFLOW_TRACKING_URI if it is set, else to SQLite.
        run: name of the experiment, for loggers that have experiments.
        parts: parts of the run, such as `teacher`.

    Returns:
        A list of loggers for each part, for `train`.

    Raises:
        ConfigError: a logger's package is not installed.
    """
    return {part: [_make(kind, folder, run, part) for kind in kinds] for part in parts}


def _mlflow(folder: Path, run: str, part: str) -> Logger:
    folder.mkdir(parents=True, exist_ok=True)
    # MLflow 3 no longer writes plain files.
    local = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
    uri = os.environ.get("MLFLOW_TRACKING_URI", local)
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
    """Log the configuration, and the trained and frozen parts of a phase."""
    parts = trainable_parameters(network)
    # MLflow accepts letters, digits and few signs in a name.
    name = re.sub(r"\W+", "_", phase).strip("_")
    logged = {
        key: value if isinstance(value, int | float | str) else str(value)
        for key, value in settings.items()
    }
    for state, wanted in (("trained", True), ("frozen", False)):
        chosen = [part.removeprefix(TRAINABLE) for part, n in parts.items() if (n > 0) == wanted]
        logged[f"{name}/{state}"] = ", ".join(chosen) or "nothing"
    for logger in loggers:
        logger.log_hyperparams(logged)


def trainable_parameters(network: nn.Module) -> dict[str, float]:
    """Number of trained parameters by part of a network; 0 for a frozen part.

    Parts without parameters, such as dropout or the head of another task, are left out.
    """
    return {
        f"{TRAINABLE}{name}": float(sum(p.numel() for p in part.parameters() if p.requires_grad))
        for name, part in network.named_children()
        if any(p.numel() for p in part.parameters())
    }
