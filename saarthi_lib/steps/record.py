"""What all steps have in common: their inputs verified, a folder written whole, its record."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saarthi_lib.config import TrainConfig
from saarthi_lib.lineage import made_by
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import verify_record, whole_folder, write_record

logger = get_logger("steps")


@contextmanager
def recorded_step(
    name: str, config: TrainConfig, out: Path, *inputs: Path | None
) -> Iterator[Path]:
    """Yield the folder to write to; it becomes `out`, with `step.json`, when the step succeeds.

    Raises:
        ArtifactError: one of the inputs, the folders of earlier steps, is not as it was written.
        StorageError: the disk is full, or cannot be written to.
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
