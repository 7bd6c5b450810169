"""Data in buckets on S3 and Google Cloud Storage, files on the web, and data sets of a hub.

Each kind of storage lists its objects with their states, and downloads and uploads single ones
(`objects.py`); everything else is shared (`transfer.py`).
"""

from saarthi_lib.data.cloud.objects import ExistsError, storage_errors
from saarthi_lib.data.cloud.transfer import (
    bucket_at,
    fetch,
    fetched,
    is_bucket,
    is_remote,
    remote_digest,
    remove,
    replace,
    store,
)

__all__ = [
    "ExistsError",
    "bucket_at",
    "fetch",
    "fetched",
    "is_bucket",
    "is_remote",
    "remote_digest",
    "remove",
    "replace",
    "storage_errors",
    "store",
]
