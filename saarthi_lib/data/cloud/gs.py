"""Google Cloud Storage; `STORAGE_EMULATOR_HOST` selects another server."""

import base64
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from saarthi_lib.data.cloud.objects import ChangedError, DamagedError, ExistsError, StoredObject
from saarthi_lib.errors import DataError

_LEAST, _RATIO = 256 << 20, 100  # bytes that any object may unpack to, and those for each byte
_TIMEOUT = 120.0  # seconds that a request is retried, with back-off


class GoogleFolder:
    """A folder of a bucket on Google Cloud Storage.

    Args:
        bucket: name of the bucket.
        folder: folder in it, without slashes at its ends.
        seconds: time limit of a single try; None: retry temporary errors with back-off.
    """

    def __init__(self, bucket: str, folder: str, seconds: float | None = None) -> None:
        self._client = _client()
        self._bucket = self._client.bucket(bucket)
        self._folder = folder
        self._limits: dict[str, Any] = {"retry": None if seconds else _retry()}
        if seconds:
            self._limits["timeout"] = seconds

    def objects(self) -> list[StoredObject]:
        """List the objects with their generations and checksums."""
        prefix = self._key("")
        blobs = list(self._client.list_blobs(self._bucket, prefix=prefix, **self._limits))
        if not blobs and self._folder and (one := self._blob(self._folder)):
            prefix, blobs = self._folder.removesuffix(self._folder.split("/")[-1]), [one]
        return [
            _stored(blob, blob.name.removeprefix(prefix))
            for blob in blobs
            if not blob.name.endswith("/")
        ]

    def find(self, name: str) -> StoredObject | None:
        """Find an object without listing the folder; None if it is missing."""
        key = self._key(name)
        # In contrast to a request for the object, a missing bucket is an error.
        blobs = self._client.list_blobs(self._bucket, prefix=key, max_results=1, **self._limits)
        return next((_stored(blob, name) for blob in blobs if blob.name == key), None)

    def download(self, stored: StoredObject, target: Path, most: int | None = None) -> None:
        """Download the listed generation, and verify its checksum."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        generation = stored.state[0]
        blob = self._bucket.blob(stored.key, generation=generation)
        try:
            with target.open("wb") as file:
                blob.download_to_file(
                    _Limited(file, max(_LEAST, _RATIO * stored.size) if most is None else most),
                    if_generation_match=generation,
                    checksum="crc32c",
                    **self._limits,
                )
        except (NotFound, PreconditionFailed):
            raise ChangedError(f"gs://{self._bucket.name}/{stored.key}") from None
        except _TooLongError:
            raise DamagedError(f"gs://{self._bucket.name}/{stored.key} is far too large") from None

    def read(self, name: str, most: int | None = None) -> bytes | None:
        """Return the content of an object, or `most` bytes of it; None if it is missing."""
        from google.api_core.exceptions import NotFound

        try:
            content: bytes = self._bucket.blob(self._key(name)).download_as_bytes(
                end=most and most - 1, **self._limits
            )
        except NotFound:
            return None
        return content

    def upload(self, path: Path, name: str, *, replace: bool) -> None:
        """Store a file, in parts if it is large."""
        from google.api_core.exceptions import PreconditionFailed

        condition = {} if replace else {"if_generation_match": 0}
        try:
            self._bucket.blob(self._key(name)).upload_from_filename(
                path, checksum="crc32c", **condition, **self._limits
            )
        except PreconditionFailed as error:
            raise ExistsError(name) from error

    def remove(self, name: str) -> None:
        """Delete an object, if it exists."""
        from google.api_core.exceptions import NotFound

        with suppress(NotFound):
            self._bucket.blob(self._key(name)).delete(**self._limits)

    def holds(self, path: Path, name: str) -> bool:
        """Compare the MD5 digest of a file with that of an object."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").digest()
        blob = self._blob(self._key(name))
        return blob is not None and blob.md5_hash == base64.b64encode(digest).decode()

    def advice(self, error: Exception) -> str | None:
        """Describe an error of this storage and its remedy; None for other errors."""
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError, TransportError
        from requests import RequestException  # type: ignore[import-untyped]

        match error:
            case exceptions.NotFound():
                return "the bucket does not exist; fix the address"
            case exceptions.Forbidden() | exceptions.Unauthorized():
                return (
                    "no permission; give the account the role Storage Object Viewer on the bucket "
                    "to read, or Storage Object User to write"
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

    def _blob(self, key: str) -> Any:
        """Metadata of an object; None if it is missing."""
        return self._bucket.get_blob(key, **self._limits)

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name


class _TooLongError(Exception):
    """A download is far larger than its object."""


class _Limited:
    """Output file of a download. Objects that are stored with gzip arrive unpacked."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._left = file, most

    def write(self, content: bytes) -> int:
        self._left -= len(content)
        if self._left < 0:
            raise _TooLongError
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _stored(blob: Any, name: str) -> StoredObject:
    return StoredObject(name, blob.name, blob.size, (blob.generation, blob.crc32c))


def _client() -> Any:
    """Client of Google Cloud Storage, with the credentials of the environment."""
    try:
        from google.cloud import storage
    except ImportError:
        raise DataError(
            "gs:// needs the package google-cloud-storage: pip install 'google-cloud-storage<3'"
        ) from None
    from google.auth.exceptions import DefaultCredentialsError

    # Reading needs no project; public buckets and STORAGE_EMULATOR_HOST need no credentials.
    try:
        return storage.Client(project=None)
    except DefaultCredentialsError:
        return storage.Client.create_anonymous_client()


def _retry() -> Any:
    """Exponential back-off with jitter, for temporary errors."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(_TIMEOUT)
