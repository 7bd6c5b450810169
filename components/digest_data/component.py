"""Digest the input files, so that nothing made from other files is taken for theirs."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def digest_data(data_config: dict) -> str:
    """Digest the input files, so that nothing made from other files is taken for theirs.

    Run it without caching, and give what it returns to preprocess_data: its cached result is then
    right, also for a bucket whose objects have changed.

    Args:
        data_config: Where the labelled text is, and the other fields of the section `data`.

    Returns:
        SHA-256 over names and contents; in a bucket over names, generations and checksums.
    """
    from saarthi_lib import logs
    from saarthi_lib.config import TrainConfig, require
    from saarthi_lib.runs.train import data_digest

    with logs.task():
        config = TrainConfig.from_mapping(data_config)
        require(config, "input_path")
        return data_digest(config)
