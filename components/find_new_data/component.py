"""Check whether the data have changed since the last published bundle."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def find_new_data(
    run_config: dict, data_config: dict, delivery_config: dict, publish_to: str
) -> str:
    """Check whether the data have changed since the last published bundle.

    Args:
        run_config: Task.
        data_config: Folder of the labelled text (input_path).
        delivery_config: Name of the bundle.
        publish_to: Folder, or s3:// or gs:// address, of the published bundles; the newest bundle
            has the digest of its data.

    Returns:
        Version for a bundle of the changed data: the time in UTC, such as 2026.11.25-030000; empty
        if the data have not changed.
    """
    from datetime import UTC, datetime

    from saarthi_lib.bundle.publishing import latest_published
    from saarthi_lib.config import require
    from saarthi_lib.logs import get_logger
    from saarthi_lib.runs.reuse import data_digest
    from saarthi_lib.steps.task import task

    with task(run_config, data_config, delivery_config) as config:
        require(config, "input_path")
        latest = latest_published(publish_to, config.name)
        logger = get_logger("news")
        if latest is None:
            logger.info("no bundle of %s is published yet", config.name)
        elif latest.made_by.get("input_digest") != data_digest(config):
            logger.info("the data have changed since version %s", latest.version)
        else:
            logger.info("the data have not changed since version %s", latest.version)
            return ""
        return datetime.now(UTC).strftime("%Y.%m.%d-%H%M%S")
