"""Shared parts of the steps: declared sections, verified inputs, atomic output, step record."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from saarthi_lib.config import TrainConfig
from saarthi_lib.lineage import made_by
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import verify_record, whole_folder, write_record

logger = get_logger("steps")

Step = TypeVar("Step", bound=Callable[..., Any])


def reads(*sections: str) -> Callable[[Step], Step]:
    """Declare the sections of the configuration that a step reads.

    The step receives only these sections, so a component that passes only these sections has the
    same result as a run in one process. Later steps read the preprocessing settings from its
    output.
    """

    def declare(step: Step) -> Step:
        @wraps(step)
        def narrowed(config: TrainConfig, *args: Any, **kwargs: Any) -> Any:
            return step(config.only(*sections), *args, **kwargs)

        narrowed.sections = sections  # type: ignore[attr-defined]
        return cast(Step, narrowed)

    return declare


@contextmanager
def recorded_step(
    name: str, config: TrainConfig, out: Path, *inputs: Path | None
) -> Iterator[Path]:
    """Yield the folder to write to; it becomes `out`, with `step.json`, when the step succeeds.

    Raises:
        ArtifactError: an input folder was changed or damaged.
        StorageError: the disk is full or not writable.
    """
    logger.info("--- %s", name)
    start = time.perf_counter()
    for folder in filter(None, inputs):
        verify_record(folder)
    with whole_folder(out) as folder:
        yield folder
        seconds = round(time.perf_counter() - start, 2)
        record = {"step": name, "seconds": seconds, "config": config.model_dump(), **made_by()}
        write_record(folder, record)
    logger.info("--- %s: %.1f s", name, seconds)
