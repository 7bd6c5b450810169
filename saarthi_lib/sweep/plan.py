"""Plan a sweep: the runs of a configuration with varied fields."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saarthi_lib.config import SECTIONS, TrainConfig
from saarthi_lib.errors import HIDDEN, ConfigError
from saarthi_lib.layout import current_names
from saarthi_lib.recipe import settled
from saarthi_lib.settings import overridden
from saarthi_lib.storage import digest_json

OVER, SEEDS = "over", "seeds"  # keys of a configuration's file besides its fields
# Fields that the sweep sets.
_FIXED = {
    "root_output_path": "each run has its own folder in --output",
    "seed": "use --seeds",
    "production": "a sweep keeps the steps that its runs share",
}


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: name of its folder.
        varied: varied fields with this run's values.
        config: the whole configuration.
        teaching: digest of the fields for data, teacher and signals; runs with the same digest
            share these steps.
    """

    name: str
    varied: dict[str, Any]
    config: TrainConfig
    teaching: str


def plan_sweep(
    fields: Mapping[str, Any],
    over: Mapping[str, Sequence[Any]],
    seeds: int,
    output: Path,
    source: str = "configuration",
) -> list[SweepRun]:
    """Plan the runs of a sweep, and check all configurations before training.

    Args:
        fields: fields of the base configuration; its `over` and `seeds` are defaults for the
            arguments.
        over: values of each varied field; all combinations are run.
        seeds: runs of each combination, with consecutive seeds from the configuration's seed.
        output: folder of the sweep.
        source: name of the configuration in errors.

    Raises:
        ConfigError: a field is unknown, wrong, or cannot be varied; the message names it.
    """
    fields = dict(fields)
    written, written_seeds = fields.pop(OVER, None) or {}, fields.pop(SEEDS, None)
    if not isinstance(written, Mapping) or not all(
        isinstance(values, list) and values for values in written.values()
    ):
        raise ConfigError(f"{source}: over: must map fields to lists of values")
    over = {**current_names(written, f"{source}: over"), **over}
    seeds = seeds or written_seeds or 1
    if not isinstance(seeds, int) or seeds < 1:
        raise ConfigError(f"{source}: seeds: must be a whole number above 0, not {seeds!r}")
    if not over and seeds == 1:
        raise ConfigError("nothing is varied: give --over field=value,value or --seeds")
    for field in over:
        if field in _FIXED:
            raise ConfigError(f"--over {field}: cannot be varied: {_FIXED[field]}")
    first = TrainConfig.from_mapping({**fields, "production": False}, source)
    runs = []
    for values in itertools.product(*over.values()):
        varied = dict(zip(over, values, strict=True))
        for seed in range(first.seed, first.seed + seeds):
            content = overridden(fields, {**varied, "seed": seed, "production": False})
            name = _name([*varied.values(), *([f"seed{seed}"] if seeds > 1 else [])], content)
            content["root_output_path"] = str(output / "runs" / name)
            changes = ", ".join(f"{field}={value}" for field, value in varied.items())
            config = TrainConfig.from_mapping(
                content, f"{source} with {changes}" if changes else source
            )
            _require_whole(config)
            runs.append(SweepRun(name, varied, config, _teaching(config)))
    if len({run.name for run in runs}) < len(runs):
        raise ConfigError("two runs would be the same: a field's values must differ")
    return runs


def _require_whole(config: TrainConfig) -> None:
    """Check that the configuration, as it is written for each run, has the whole address."""
    if HIDDEN in config.input_path:
        raise ConfigError(
            f"input_path: {config.input_path}: the runs of a sweep read their configurations from "
            "files, which never hold the secret of an address; download the data and give their "
            "path, or put them into a bucket"
        )


def _teaching(config: TrainConfig) -> str:
    names = list(SECTIONS)
    return digest_json(settled(config, *names[: names.index("teacher") + 1]))


def _name(values: Sequence[Any], content: Mapping[str, Any]) -> str:
    """A readable and unique name of a configuration."""
    plain = [re.sub(r"[^A-Za-z0-9.]+", "_", str(value)).strip("_.") for value in values]
    return "-".join([*plain, digest_json(dict(content))[:6]])[-80:].lstrip("-._")
