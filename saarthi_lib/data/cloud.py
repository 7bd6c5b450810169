"""Fetch an input folder from Google Cloud Storage, and store one there.

What is fetched is one state of the folder: the objects are listed with their generations, and each
is downloaded in that generation or not at all. `STORAGE_EMULATOR_HOST` is honoured.
"""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from saarthi_lib.errors import DataError, SaarthiError
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import digest_json, whole_folder

logger = get_logger("data.cloud")

SCHEME = "gs://"
_THREADS = 8
_ATTEMPTS = 3  # listings, when objects change meanwhile
_TIMEOUT = 120.0  # seconds that a request is retried, with back-off
_TELL_EVERY = 5.0  # seconds
_MEGABYTE = 1_000_000


def is_remote(path: str) -> bool:
    """Whether a path names a folder in a bucket (`gs://…`)."""
    return path.startswith(SCHEME)


def fetch(uri: str, folder: Path) -> None:
    """Download all objects below `gs://bucket/prefix`, whole or not at all.

    Contents are verified against their checksums, and requests that fail for a passing reason are
    repeated with back-off.

    Args:
        uri: the folder in the bucket.
        folder: takes its place once everything is there.

    Raises:
        DataError: the bucket is missing or may not be read, the folder is empty or keeps changing,
            an object's name leads out of the folder, or the client's package is not installed.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        objects = _objects(uri)
        try:
            with storage_errors(uri), whole_folder(folder) as aside:
                _download_all(uri, objects, aside)
            return
        except _ChangedError as error:
            logger.warning("%s changed while it was fetched (attempt %d)", error, attempt)
    raise DataError(
        f"{uri}: changed {_ATTEMPTS} times while it was fetched; try again when nobody writes to it"
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
    """An object is no longer as it was listed; the message names it."""


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
    progress = _Progress(uri, len(objects), sum(blob.size for _, blob in objects))
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = {pool.submit(_download, blob, folder / name, progress) for name, blob in objects}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=_TELL_EVERY, return_when="FIRST_EXCEPTION")
                for download in done:
                    download.result()
                progress.tell()
        finally:
            pool.shutdown(cancel_futures=True)


def _download(blob: Any, target: Path, progress: "_Progress") -> None:
    from google.api_core.exceptions import NotFound, PreconditionFailed

    target.parent.mkdir(parents=True, exist_ok=True)
    generation = blob.generation
    # The listed blob's own link leads to whatever the object is now.
    listed = blob.bucket.blob(blob.name, generation=generation)
    try:
        with _CountingWriter(target, progress) as file:
            listed.download_to_file(
                file, if_generation_match=generation, checksum="crc32c", retry=retry()
            )
    except (NotFound, PreconditionFailed):
        raise _ChangedError(f"{SCHEME}{blob.bucket.name}/{blob.name}") from None


class _Progress:
    """Counts bytes over all threads."""

    def __init__(self, uri: str, files: int, size: int) -> None:
        self._uri, self._files, self._size = uri, files, size
        self._done = 0
        self._lock = Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count

    def tell(self) -> None:
        logger.info(
            "%s: %.1f of %.1f MB of %d files",
            self._uri,
            self._done / _MEGABYTE,
            self._size / _MEGABYTE,
            self._files,
        )


class _CountingWriter(io.BufferedWriter):
    def __init__(self, target: Path, progress: _Progress) -> None:
        super().__init__(io.FileIO(target, "wb"))
        self._progress = progress

    def write(self, content: Any) -> int:
        self._progress.add(len(content))
        return super().write(content)


def storage_client() -> Any:
    """The client of Google Cloud Storage, with the credentials of the environment."""
    try:
        from google.cloud import storage
    except ImportError:
        raise DataError(
            "gs:// needs the package google-cloud-storage: pip install 'google-cloud-storage<3'"
        ) from None
    # Reading needs no project; with STORAGE_EMULATOR_HOST it needs no credentials either.
    return storage.Client(project=None)


def retry() -> Any:
    """Exponential back-off with jitter, for errors that pass."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(_TIMEOUT)


@contextmanager
def storage_errors(uri: str, kind: type[SaarthiError] = DataError) -> Iterator[None]:
    """Convert the client's errors into errors of this kind that suggest a fix."""
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
            return "what was received does not match its checksum; try again"
        case exceptions.RetryError() | TransportError() | RequestException():
            return "the storage cannot be reached; check the network and try again"
        case GoogleAuthError():
            return "no valid credentials; run 'gcloud auth application-default login'"
        case exceptions.GoogleAPICallError():
            return "the storage refuses the request; fix the address"
    return None
