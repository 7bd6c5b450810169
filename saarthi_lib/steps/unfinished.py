"""State of a step's training while it is not finished: next to its output, or in a store."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from saarthi_lib.addresses import BUCKETS, checked_address
from saarthi_lib.config import NOT_IN_ARTIFACTS, TrainConfig
from saarthi_lib.data.cloud import is_bucket
from saarthi_lib.layout import START
from saarthi_lib.lineage import CHECKPOINTS_VARIABLE, source_digest
from saarthi_lib.storage import RECORD, digest_folder, digest_json, read_json

if TYPE_CHECKING:
    from saarthi_lib.training.checkpoint import Checkpoint


def checkpoint_of(
    config: TrainConfig, out: Path, part: str, *inputs: Path | None, in_store: bool = False
) -> "Checkpoint | None":
    """Checkpoint of a training, next to its output or in the store that the environment names.

    Args:
        config: sections that the step reads.
        out: folder that the step writes.
        part: name of the training in the store.
        inputs: folders that the step reads; None for a missing one.
        in_store: whether the training needs no checkpoint unless there is a store.

    Raises:
        ConfigError: the store's address is wrong.
    """
    from saarthi_lib.training.checkpoint import Checkpoint

    store = os.environ.get(CHECKPOINTS_VARIABLE, "")
    store = checked_address(store, CHECKPOINTS_VARIABLE, BUCKETS).rstrip("/")
    if in_store and not store:
        return None
    fields = config.model_dump(exclude=set(NOT_IN_ARTIFACTS))
    key = digest_json([source_digest(), fields, part, *map(_digest, filter(None, inputs))])
    beside, name = out.with_name(f".{out.name}.{part}.epochs"), f"{part}-{key[:16]}"
    if is_bucket(store):
        return Checkpoint(beside, key, f"{store}/{name}", paced=True)
    return Checkpoint(Path(store) / name if store else beside, key, paced=in_store)


def _digest(folder: Path | None) -> str:
    """Digest of a step's folder, without its times; empty if there is none."""
    if folder is None:
        return ""
    if (folder / "data.json").is_file():
        digest = str(read_json(folder / "data.json")["digest"])
        # With an earlier run, the same files have other splits.
        start = folder / START
        return digest_json([digest, read_json(start)]) if start.is_file() else digest
    record = folder / RECORD
    return digest_json(read_json(record)["files"]) if record.is_file() else digest_folder(folder)
