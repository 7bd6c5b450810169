"""One process of a teacher's training on several devices or machines; torchrun starts it.

    torchrun --nproc-per-node 2 -m saarthi_lib.steps.worker \\
        --config config.json --data data --out teacher

Folders are local or in a bucket (s3://, gs://). The processes train together (Lightning, DDP). The
first one writes the teacher.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from saarthi_lib import logs, steps
from saarthi_lib.addresses import local_path
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.cloud import fetch, is_bucket, store
from saarthi_lib.storage import link_folder, write_json

SCORES = "scores.json"  # among the teacher's files


def main() -> None:
    """Read the arguments, train, and write the teacher in the first process."""
    parser = argparse.ArgumentParser(description="One process of a teacher's training.")
    parser.add_argument("--config", required=True, help="JSON, or the path of a file with it")
    parser.add_argument(
        "--data", required=True, help="folder written by preprocess, or its address"
    )
    parser.add_argument("--out", required=True, help="folder or address for the teacher")
    given = parser.parse_args()
    content = given.config if given.config.startswith("{") else Path(given.config).read_text()
    first = os.environ.get("RANK", "0") == "0"
    logs.configure("INFO" if first else "WARNING")
    with tempfile.TemporaryDirectory(prefix="saarthi-worker-") as scratch:
        made = Path(scratch) / "teacher"
        if is_bucket(given.data):
            data = Path(scratch) / "data"
            fetch(given.data, data)
        else:
            data = local_path(given.data, "--data")
        out = None if is_bucket(given.out) else local_path(given.out, "--out")
        config = TrainConfig.from_mapping(json.loads(content))
        scores = steps.train_teacher(config, data, made)
        if not first:
            return
        write_json(made / SCORES, scores)
        if out is None:
            store(made, given.out)
        else:
            link_folder(made, out)


if __name__ == "__main__":
    main()
