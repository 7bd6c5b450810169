"""Shared parts of the steps: declared sections, verified inputs, atomic output, step record."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar, cast

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ArtifactError
from saarthi_lib.lineage import made_by
from saarthi_lib.logs import get_logger
from saarthi_lib.recipe import Facts, describe, resolve
from saarthi_lib.storage import read_json, verify_record, whole_folder, write_record

logger = get_logger("steps")

Step = TypeVar("Step", bound=Callable[..., Any])


def reads(*sections: str) -> Callable[[Step], Step]:
    """Declare the sections of the configuration that a step reads.

    The step receives only these sections, so a component that passes only these sections has the
    same result as a run in one process. The recipe resolves the fields that were not given, from
    the facts in the step's input `data`. Later steps read the preprocessing settings from there.
    """

    def declare(step: Step) -> Step:
        parameters = signature(step)

        @wraps(step)
        def narrowed(config: TrainConfig, *args: Any, **kwargs: Any) -> Any:
            data = parameters.bind(config, *args, **kwargs).arguments.get("data")
            own = config.only(*sections)
            return step(own if data is None else resolved(own, data), *args, **kwargs)

        narrowed.sections = sections  # type: ignore[attr-defined]
        return cast(Step, narrowed)

    return declare


def resolved(config: TrainConfig, data: Path) -> TrainConfig:
    """Resolve the fields that were not given, by the recipe and the columns of the data.

    Args:
        config: the configuration, or some of its sections.
        data: folder written by `preprocess`.

    Raises:
        ArtifactError: the folder was not prepared, or by an earlier version.
    """
    if not (data / "data.json").is_file():
        raise ArtifactError(f"{data}: holds no prepared data; run preprocessing first")
    content = read_json(data / "data.json")
    facts = content.get("facts")
    if facts is None:
        raise ArtifactError(f"{data}: was prepared by an earlier version of Saarthi; train again")
    columns = {
        name: column
        for name, column in content.get("columns", {}).items()
        if name in type(config).model_fields and name not in config.model_fields_set
    }
    return resolve(config.model_copy(update=columns), Facts.of(facts))


def log_recipe(config: TrainConfig, *sections: str) -> None:
    """Log the fields of these sections that the recipe chose, with their reasons."""
    for line in describe(config, list(config.section(*sections))):
        logger.info("recipe %s: %s", config.recipe, line)


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
        if (folder / "data.json").is_file():  # preprocessing finds the facts
            config = resolved(config, folder)
        record = {"step": name, "seconds": seconds, "config": config.model_dump(), **made_by()}
        write_record(folder, record)
    logger.info("--- %s: %.1f s", name, seconds)
