"""Process and device that a network runs on; the module does not load Lightning."""

import os
import random
import re
from typing import Any

import numpy as np
import torch

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError
from saarthi_lib.logs import get_logger

logger = get_logger("training")

_RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK")  # variables of torchrun
_SIZES = ("WORLD_SIZE", "LOCAL_WORLD_SIZE")


def set_up_process(config: TrainConfig) -> None:
    """Seed all random numbers, and use the processors that are available."""
    random.seed(config.seed)
    np.random.seed(config.seed)
    torch.manual_seed(config.seed)
    # Filling takes a tenth of a student's step, and all memory is written before it is read.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))


def world() -> tuple[int, int]:
    """Rank of this process and number of processes, from torchrun; without it, (0, 1).

    Lightning reads the same variables when it is imported, also without torchrun. So call this
    first.

    Raises:
        ConfigError: the variables of torchrun are missing or no such numbers, or some are set
            without it.
    """
    given = {name: os.environ[name] for name in (*_RANKS, *_SIZES) if name in os.environ}
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        for name, value in given.items():
            if value != ("0" if name in _RANKS else "1"):
                raise ConfigError(
                    f"{name}={value[:50]!r} is set, but torchrun has not started this process: "
                    f"unset {name}; to train on several devices, set teacher_devices"
                )
        return 0, 1
    for rank, size in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", "LOCAL_WORLD_SIZE")):
        values = given.get(rank, ""), given.get(size, "")
        digits = all(re.fullmatch("[0-9]{1,6}", each) for each in values)
        if not digits or int(values[0]) >= int(values[1]):
            raise ConfigError(
                f"{rank}={values[0][:50]!r} and {size}={values[1][:50]!r} must be numbers with "
                f"0 <= {rank} < {size}: start with torchrun, or unset TORCHELASTIC_RUN_ID"
            )
    if int(given["WORLD_SIZE"]) % int(given["LOCAL_WORLD_SIZE"]):
        raise ConfigError(
            f"WORLD_SIZE={given['WORLD_SIZE']} must be a multiple of "
            f"LOCAL_WORLD_SIZE={given['LOCAL_WORLD_SIZE']}: start as many processes on each node"
        )
    return int(given["RANK"]), int(given["WORLD_SIZE"])


def precision_for(config: TrainConfig) -> Any:
    """Training precision on the available device.

    `16` becomes `16-mixed`: pure half precision does not converge under Adam. On a CPU with
    bfloat16 instructions, mixed precision uses bfloat16, with weights and steps in single
    precision.
    """
    wanted = "16-mixed" if config.precision == "16" else config.precision
    on_gpu = config.device != "cpu" and (torch.cuda.is_available() or config.device == "mps")
    if on_gpu or wanted in ("32", "64"):
        return {"32": "32-true", "64": "64-true"}.get(wanted, wanted)
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return "bf16-mixed"
    logger.warning("precision %s: this CPU has no bfloat16; training in 32", config.precision)
    return "32-true"


def half_for(config: TrainConfig) -> torch.dtype | None:
    """Half precision of matrix products outside the fit loop; None for full precision."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.half}.get(precision_for(config))


def accelerator_device(config: TrainConfig) -> torch.device:
    """The device for work outside the fit loop."""
    if config.device in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if config.device == "mps" else "cpu")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: a GPU raises its own error type, torch on the CPU only a message."""
    words = ("can't allocate memory", "not enough memory", "could not create a primitive")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        word in str(error) for word in words
    )


def is_lost(error: BaseException) -> bool:
    """Whether a GPU can no longer be used by this process."""
    return isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)
