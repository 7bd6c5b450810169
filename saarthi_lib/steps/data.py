"""Labelled text → data: read, checked, split, augmented and encoded."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError
from saarthi_lib.steps.record import reads, recorded_step
from saarthi_lib.storage import whole_file

if TYPE_CHECKING:
    from saarthi_lib.data.check import DataCheck
    from saarthi_lib.data.encode import Encoded
    from saarthi_lib.data.preprocess import Prepared


@reads("run", "data", "teacher")
def preprocess(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Read, check, split, augment and encode the data; returns the summary.

    Raises:
        DataError: the data cannot be read, or their check found what stops a run.
    """
    from saarthi_lib.data.preprocess import prepare, require_sound

    with recorded_step("preprocess", config, out) as folder:
        summary, check = prepare(config, folder)
        require_sound(check, config)
        return summary


def check_data(config: TrainConfig, page: Path) -> "DataCheck":
    """Check the data as `preprocess` would, and write the page; nothing else is kept."""
    from saarthi_lib.data.preprocess import CHECK_PAGE, prepare

    # Labels that train lacks are among what is told, and augmented text is not.
    looking = config.model_copy(
        update={"unknown_labels": "keep", "augmentation_size": 0, "fast_dev_run": False}
    )
    with TemporaryDirectory(prefix="saarthi-check-") as scratch, whole_file(page) as aside:
        _, check = prepare(looking, Path(scratch))
        shutil.copyfile(Path(scratch) / CHECK_PAGE, aside)
        return check


def prepared_data(data: Path) -> "Prepared":
    """What `preprocess` wrote."""
    from saarthi_lib.data.preprocess import Prepared

    return Prepared(data)


def clean_rows(config: TrainConfig, prepared: "Prepared") -> "Encoded | None":
    """The rows by which training rows are weighed; None where they are not."""
    if config.reweighting == "none":
        return None
    if not prepared.has("clean"):
        raise ConfigError(
            f"reweighting: {config.reweighting} needs rows whose labels can be trusted: add "
            "clean.* beside train.* in the input folder, or set reweighting: none"
        )
    return prepared.encoded("clean")
