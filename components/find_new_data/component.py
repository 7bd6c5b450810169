"""Tell whether the data have changed since the last bundle was published."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def find_new_data(
    run_config: dict, data_config: dict, delivery_config: dict, publish_to: str
) -> str:
    """Tell whether the data have changed since the last bundle was published.

    Args:
        run_config: Task.
        data_config: Where the labelled text is.
        delivery_config: The bundle's name.
        publish_to: Folder or gs:// URI with the published bundles; the newest one says what data it
            was made from.

    Returns:
        The version for a bundle of the changed data: the time in UTC, such as 2026.11.25-030000;
        empty when they are those of the last bundle.
    """
    from datetime import UTC, datetime

    from saarthi_lib import logs
    from saarthi_lib.bundle.publishing import latest_published
    from saarthi_lib.config import TrainConfig, require
    from saarthi_lib.runs.train import data_digest

    with logs.task():
        config = TrainConfig.from_mapping({**run_config, **data_config, **delivery_config})
        require(config, "input_path")
        digest, latest = data_digest(config), latest_published(publish_to, config.name)
        logger = logs.get_logger("news")
        if latest is None:
            logger.info("no bundle of %s is published yet", config.name)
        elif latest.made_by.get("input_digest") != digest:
            logger.info("the data are not those of version %s any more", latest.version)
        else:
            logger.info("the data are those of version %s: nothing to do", latest.version)
            return ""
        return datetime.now(UTC).strftime("%Y.%m.%d-%H%M%S")
