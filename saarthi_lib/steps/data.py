"""Labelled text → data: read, checked, split, augmented and encoded."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError
from saarthi_lib.steps.record import log_recipe, reads, recorded_step, resolved

if TYPE_CHECKING:
    from saarthi_lib.data.check import DataCheck
    from saarthi_lib.data.encode import Encoded
    from saarthi_lib.data.preprocess import Prepared, Summary


@reads("run", "data", "teacher")
def preprocess(config: TrainConfig, out: Path) -> "Summary":
    """Read, check, split, augment and encode the data; returns the summary.

    Raises:
        DataError: the data cannot be read, or the data check failed.
    """
    from saarthi_lib.data.preprocess import CHECK_PAGE, prepare, require_sound
    from saarthi_lib.reports.data_check import write_check_report

    with recorded_step("preprocess", config, out) as folder:
        summary, check = prepare(config, folder)
        write_check_report(folder / CHECK_PAGE, check)
        log_recipe(resolved(config, folder), "run", "data", "teacher")
        require_sound(check, config)
        return summary


def check_data(config: TrainConfig, page: Path) -> "DataCheck":
    """Run the data check of `preprocess`, and write only its page.

    Raises:
        ConfigError: a field needs other data, such as trusted rows; a run would be refused.
        DataError: the data cannot be read.
    """
    from saarthi_lib.data.preprocess import prepare
    from saarthi_lib.evaluation.thresholds import check_risk_target
    from saarthi_lib.reports.data_check import write_check_report

    # The check reports refused labels instead of failing, and ignores augmented text.
    looking = config.model_copy(update={"augmentation_size": 0, "fast_dev_run": False})
    with TemporaryDirectory(prefix="saarthi-check-") as scratch:
        summary, check = prepare(looking, Path(scratch), refuse=False)
        check_risk_target(config, summary["rows"]["validation"])
        clean_rows(config, prepared_data(Path(scratch)))
    write_check_report(page, check)
    return check


def prepared_data(data: Path) -> "Prepared":
    """Open the folder written by `preprocess`."""
    from saarthi_lib.data.preprocess import Prepared

    return Prepared(data)


def clean_rows(config: TrainConfig, prepared: "Prepared") -> "Encoded | None":
    """Trusted rows for reweighting; None without reweighting.

    Raises:
        ConfigError: `reweighting` is set, but the `clean` split is missing.
    """
    if config.reweighting == "none":
        return None
    if not prepared.has("clean"):
        raise ConfigError(
            f"reweighting: {config.reweighting} needs rows whose labels can be trusted: add "
            "clean.* beside train.* in the input folder, or set reweighting: none"
        )
    return prepared.encoded("clean")
