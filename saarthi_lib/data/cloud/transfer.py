"""Fetch an input folder from any storage, and store a folder in a bucket.

All files belong to one state of the folder: objects are listed with their generations or ETags, and
only these states are downloaded.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from saarthi_lib.addresses import BUCKETS, REMOTE, checked_address, revealed, scheme_of
from saarthi_lib.data.cloud.gs import GoogleFolder
from saarthi_lib.data.cloud.hub import HubFolder
from saarthi_lib.data.cloud.objects import (
    Bucket,
    ChangedError,
    Source,
    StoredObject,
    storage_errors,
)
from saarthi_lib.data.cloud.s3 import S3Folder
from saarthi_lib.data.cloud.web import WebFile
from saarthi_lib.errors import DataError
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import digest_json, whole_folder

logger = get_logger("data.cloud")

_THREADS = 8
_ATTEMPTS = 3  # listings, when objects change meanwhile
_LOG_EVERY = 5.0  # seconds
_LONGEST_NAME = 255  # bytes of a file's name
_MEGABYTE = 1_000_000


def is_remote(path: str) -> bool:
    """Whether a path names data that are fetched: s3://, gs://, https:// or hf://."""
    return scheme_of(path) in REMOTE


def is_bucket(path: str) -> bool:
    """Whether a path names a folder in a bucket, which can be written too: s3:// or gs://."""
    return scheme_of(path) in BUCKETS


def bucket_at(uri: str, seconds: float | None = None) -> Bucket:
    """A folder in a bucket.

    Args:
        uri: `s3://bucket/folder` or `gs://bucket/folder`.
        seconds: time limit of a single try; None: retry temporary errors with back-off.

    Raises:
        ConfigError: the scheme is another one.
        DataError: the client's package is not installed.
    """
    scheme, _, rest = checked_address(uri, "bucket", BUCKETS).partition("://")
    name, _, folder = rest.partition("/")
    kind = GoogleFolder if scheme == "gs" else S3Folder
    return kind(name, folder.strip("/"), seconds)


def fetch(uri: str, folder: Path) -> None:
    """Download all files below an address, whole or not at all.

    Checksums are verified, and requests that fail temporarily are repeated with back-off. An
    address of one file gives a folder with this file.

    Args:
        uri: `s3://bucket/folder`, `gs://bucket/folder`, `https://host/file` or
            `hf://datasets/owner/name`.
        folder: output folder; it appears when everything is downloaded.

    Raises:
        DataError: the bucket is missing or may not be read, the folder is empty or keeps changing,
            an object's name is outside the folder, or the client's package is not installed.
    """
    source = _source(uri)
    for attempt in range(1, _ATTEMPTS + 1):
        objects = _objects(source, uri)
        try:
            with storage_errors(source, uri), whole_folder(folder) as aside:
                _download_all(source, uri, objects, aside)
            return
        except ChangedError as error:
            logger.warning("%s changed during the download (attempt %d)", error, attempt)
    raise DataError(
        f"{uri}: changed during {_ATTEMPTS} downloads; try again when nobody writes to it"
    )


@contextmanager
def fetched(uri: str) -> Iterator[Path]:
    """Fetch the files below an address into a temporary folder, for the time of the block.

    Yields the folder, or the file if the address names one. Errors of the block name the address
    instead.

    Raises:
        DataError: as `fetch`.
    """
    with TemporaryDirectory(prefix="saarthi-input-") as scratch:
        folder = Path(scratch) / "input"
        fetch(uri, folder)
        place = _file_of(uri, folder) or folder
        try:
            yield place
        except DataError as error:
            error.args = (str(error).replace(str(place), uri.rstrip("/")),)
            raise


def _file_of(uri: str, folder: Path) -> Path | None:
    """The file of an address that names one; None for a folder."""
    files = [path for path in folder.iterdir() if path.is_file()]
    if len(files) != 1 or len([*folder.iterdir()]) != 1:
        return None
    is_named = scheme_of(uri) == "https" or files[0].name == uri.rstrip("/").rpartition("/")[2]
    return files[0] if is_named else None


def store(folder: Path, uri: str) -> None:
    """Upload all files below a folder to a bucket, large ones in parts; replace existing ones.

    Raises:
        DataError: the bucket is missing, may not be written, or cannot be reached.
    """
    bucket = bucket_at(uri)
    with storage_errors(bucket, uri):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            bucket.upload(path, path.relative_to(folder).as_posix(), replace=True)


def replace(folder: Path, uri: str, last: str) -> None:
    """Replace the files below an address of a bucket by those of a folder.

    The file `last` is written after the others, and then other files are removed. Whoever finds the
    files that `last` lists has a whole state, at any time, if each state has file names of its own.

    Raises:
        DataError: as `store`.
    """
    bucket = bucket_at(uri)
    names = {path.name for path in folder.iterdir()}
    with storage_errors(bucket, uri):
        for name in (*sorted(names - {last}), last):
            bucket.upload(folder / name, name, replace=True)
        for each in bucket.objects():
            if each.name not in names:
                bucket.remove(each.name)


def remove(uri: str) -> None:
    """Delete all files below an address of a bucket.

    Raises:
        DataError: the bucket is missing, its files may not be deleted, or it cannot be reached.
    """
    bucket = bucket_at(uri)
    with storage_errors(bucket, uri):
        for each in bucket.objects():
            bucket.remove(each.name)


def remote_digest(uri: str) -> str:
    """SHA-256 over the names, states and sizes of the files below an address.

    A state is a generation with a checksum, an ETag, or a digest.

    Raises:
        DataError: as `fetch`.
    """
    objects = _objects(_source(uri), uri)
    return digest_json([[each.name, *each.state, each.size] for each in objects])


def _source(uri: str) -> Source:
    match scheme_of(uri):
        case "https":
            return WebFile(revealed(uri))
        case "hf":
            return HubFolder(uri)
    if not is_bucket(uri) or not uri.partition("://")[2].strip("/"):
        raise DataError(
            f"{uri}: is not of the form {scheme_of(uri) or 's3'}://bucket/folder; correct "
            "input_path"
        )
    return bucket_at(uri)


def _objects(source: Source, uri: str) -> list[StoredObject]:
    """The files below an address, checked to be inside the folder that they are written to."""
    with storage_errors(source, uri):
        objects = source.objects()
    if not objects:
        raise DataError(f"{uri}: there are no objects below it; correct input_path")
    names = {each.name for each in objects}
    for name in names:
        path = PurePosixPath(name)
        safe = path.as_posix() == name and not path.is_absolute() and ".." not in path.parts
        is_long = any(len(part.encode()) > _LONGEST_NAME for part in path.parts)
        if not safe or is_long or "\\" in name or "\0" in name:
            raise DataError(f"{uri}: the object '{name}' has a name unfit for a file; rename it")
        if inside := names.intersection(map(str, path.parents)):
            raise DataError(f"{uri}: '{inside.pop()}' is both an object and a folder; rename one")
    return objects


def _download_all(source: Source, uri: str, objects: Sequence[StoredObject], folder: Path) -> None:
    size = sum(max(each.size, 0) for each in objects) / _MEGABYTE
    done = 0.0
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = {pool.submit(_download, source, each, folder): each for each in objects}
        try:
            while waiting:
                for download in wait(waiting, _LOG_EVERY, "FIRST_EXCEPTION").done:
                    download.result()
                    done += max(waiting.pop(download).size, 0) / _MEGABYTE
                logger.info("%s: %.1f of %.1f MB of %d files", uri, done, size, len(objects))
        finally:
            pool.shutdown(cancel_futures=True)


def _download(source: Source, stored: StoredObject, folder: Path) -> None:
    target = folder / stored.name
    target.parent.mkdir(parents=True, exist_ok=True)
    source.download(stored, target)
