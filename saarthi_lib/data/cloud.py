"""Fetch an input folder from Google Cloud Storage, and store one there.

All files belong to one state of the folder: objects are listed with their generations, and only
these generations are downloaded. `STORAGE_EMULATOR_HOST` selects another server.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from saarthi_lib.errors import DataError, SaarthiError
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import digest_json, whole_folder

logger = get_logger("data.cloud")

SCHEME = "gs://"
_THREADS = 8
_ATTEMPTS = 3  # listings, when objects change meanwhile
_TIMEOUT = 120.0  # seconds that a request is retried, with back-off
_LOG_EVERY = 5.0  # seconds
_MEGABYTE = 1_000_000


def is_remote(path: str) -> bool:
    """Whether a path names a folder in a bucket (`gs://…`)."""
    return path.startswith(SCHEME)


def fetch(uri: str, folder: Path) -> None:
    """Download all objects below `gs://bucket/prefix`, whole or not at all.

    Checksums are verified, and requests that fail temporarily are repeated with back-off.

    Args:
        uri: folder in the bucket.
        folder: output folder; it appears when everything is downloaded.

    Raises:
        DataError: the bucket is missing or may not be read, the folder is empty or keeps changing,
            an object's name is outside the folder, or the client's package is not installed.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        objects = _objects(uri)
        try:
            with storage_errors(uri), whole_folder(folder) as aside:
                _download_all(uri, objects, aside)
            return
        except _ChangedError as error:
            logger.warning("%s changed during the download (attempt %d)", error, attempt)
    raise DataError(
        f"{uri}: changed during {_ATTEMPTS} downloads; try again when nobody writes to it"
    )


def store(folder: Path, uri: str) -> None:
    """Upload all files below a folder to `gs://bucket/prefix`, large ones in parts.

    Raises:
        DataError: the bucket is missing, may not be written, or cannot be reached.
    """
    name, _, prefix = uri.removeprefix(SCHEME).partition("/")
    with storage_errors(uri):
        bucket = storage_client().bucket(name)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = f"{prefix.rstrip('/')}/{path.relative_to(folder).as_posix()}"
            bucket.blob(place).upload_from_filename(path, checksum="crc32c", retry=retry())


def remote_digest(uri: str) -> str:
    """SHA-256 over the names, generations and checksums of the objects below a URI.

    Raises:
        DataError: as `fetch`.
    """
    return digest_json(
        [[name, blob.generation, blob.crc32c, blob.size] for name, blob in _objects(uri)]
    )


class _ChangedError(Exception):
    """An object changed after the listing; the message names it."""


def _objects(uri: str) -> list[tuple[str, Any]]:
    """The objects below a URI: path relative to it, and the client's `Blob`."""
    bucket, _, prefix = uri.removeprefix(SCHEME).partition("/")
    if not is_remote(uri) or not bucket:
        raise DataError(f"{uri}: is not of the form gs://bucket/folder; correct input_path")
    prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    with storage_errors(uri):
        blobs = list(storage_client().list_blobs(bucket, prefix=prefix, retry=retry()))
    objects = [
        (blob.name.removeprefix(prefix), blob) for blob in blobs if not blob.name.endswith("/")
    ]
    if not objects:
        raise DataError(f"{uri}: there are no objects below it; correct input_path")
    names = {name for name, _ in objects}
    for name in names:
        path = PurePosixPath(name)
        safe = path.as_posix() == name and not path.is_absolute() and ".." not in path.parts
        if not safe or "\\" in name or "\0" in name:
            raise DataError(f"{uri}: the object '{name}' has a name unfit for a file; rename it")
        if inside := names.intersection(map(str, path.parents)):
            raise DataError(f"{uri}: '{inside.pop()}' is both an object and a folder; rename one")
    return objects


def _download_all(uri: str, objects: Sequence[tuple[str, Any]], folder: Path) -> None:
    size = sum(blob.size for _, blob in objects) / _MEGABYTE
    done = 0.0
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = {pool.submit(_download, blob, folder / name): blob for name, blob in objects}
        try:
            while waiting:
                for download in wait(waiting, _LOG_EVERY, "FIRST_EXCEPTION").done:
                    download.result()
                    done += waiting.pop(download).size / _MEGABYTE
                logger.info("%s: %.1f of %.1f MB of %d files", uri, done, size, len(objects))
        finally:
            pool.shutdown(cancel_futures=True)


def _download(blob: Any, target: Path) -> None:
    from google.api_core.exceptions import NotFound, PreconditionFailed

    target.parent.mkdir(parents=True, exist_ok=True)
    generation = blob.generation
    # The listed blob itself would download the current generation.
    listed = blob.bucket.blob(blob.name, generation=generation)
    try:
        with target.open("wb") as file:
            listed.download_to_file(
                file, if_generation_match=generation, checksum="crc32c", retry=retry()
            )
    except (NotFound, PreconditionFailed):
        raise _ChangedError(f"{SCHEME}{blob.bucket.name}/{blob.name}") from None


def storage_client() -> Any:
    """Client of Google Cloud Storage, with the credentials of the environment."""
    try:
        from google.cloud import storage
    except ImportError:
        raise DataError(
            "gs:// needs the package google-cloud-storage: pip install 'google-cloud-storage<3'"
        ) from None
    # Reading needs no project, and with STORAGE_EMULATOR_HOST no credentials.
    return storage.Client(project=None)


def retry() -> Any:
    """Exponential back-off with jitter, for temporary errors."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(_TIMEOUT)


@contextmanager
def storage_errors(uri: str, kind: type[SaarthiError] = DataError) -> Iterator[None]:
    """Convert the client's errors into errors of this kind that name a remedy."""
    try:
        yield
    except (SaarthiError, _ChangedError):
        raise
    except Exception as error:
        advice = _advice(error)
        if advice is None:
            raise
        raise kind(f"{uri}: {advice} ({error})") from error


def _advice(error: Exception) -> str | None:
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, TransportError
    from requests import RequestException  # type: ignore[import-untyped]

    match error:
        case exceptions.NotFound():
            return "the bucket does not exist; fix the address"
        case exceptions.Forbidden() | exceptions.Unauthorized():
            return (
                "no permission; give the account the role Storage Object Viewer on the bucket to "
                "read, or Storage Object User to write"
            )
        case _ if type(error).__name__ == "DataCorruption":  # its module differs by version
            return "a download does not match its checksum; try again"
        case exceptions.RetryError() | TransportError() | RequestException():
            return "the storage cannot be reached; check the network and try again"
        case GoogleAuthError():
            return "no valid credentials; run 'gcloud auth application-default login'"
        case exceptions.GoogleAPICallError():
            return "the storage refuses the request; fix the address"
    return None
