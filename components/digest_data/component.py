"""Compute a digest of the input files."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def digest_data(data_config: dict) -> str:
    """Compute a digest of the input files, so that changed files are never served from a cache.

    Run this task without caching, and pass its output to preprocess_data. The cached result of
    preprocess_data is then correct even if objects in a bucket have changed.

    Args:
        data_config: Folder of the labelled text (input_path), and the other fields of the section
            `data`.

    Returns:
        SHA-256 of file names and contents; for a bucket, of names and generations or ETags.
    """
    from saarthi_lib.config import require
    from saarthi_lib.runs.reuse import data_digest
    from saarthi_lib.steps.task import task

    with task(data_config) as config:
        require(config, "input_path")
        return data_digest(config)
