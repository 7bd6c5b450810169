"""Interface of the places that data come from, and of the buckets that files are stored in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from saarthi_lib.errors import DataError, SaarthiError


@dataclass(frozen=True)
class StoredObject:
    """A file in one state.

    Attributes:
        name: path of the file in the requested folder.
        key: name of the object in its bucket, or address of the file.
        size: bytes; -1 if the server does not report it.
        state: values that change with the content, such as a generation or an ETag.
    """

    name: str
    key: str
    size: int
    state: tuple[str | int | None, ...]


class ChangedError(Exception):
    """An object changed after it was listed; the message names it."""


class ExistsError(Exception):
    """An object of this name exists already."""


class DamagedError(Exception):
    """A download does not match its checksum or size; the message names it."""


class Source(Protocol):
    """A folder or file that can be read."""

    def objects(self) -> list[StoredObject]:
        """List all objects below the folder, or the one with its name."""

    def download(self, stored: StoredObject, target: Path) -> None:
        """Write an object to a file, in the listed state.

        Raises:
            ChangedError: the object is no longer in this state.
            DamagedError: the content does not match its checksum.
        """

    def advice(self, error: Exception) -> str | None:
        """Describe an error of this storage and its remedy; None for other errors."""


class Bucket(Source, Protocol):
    """A folder of a bucket that can be written too."""

    def download(self, stored: StoredObject, target: Path, most: int | None = None) -> None:
        """See `Source.download`; a content of more than `most` bytes is damaged."""

    def find(self, name: str) -> StoredObject | None:
        """Find an object without listing the folder; None if it is missing."""

    def read(self, name: str, most: int | None = None) -> bytes | None:
        """Return the content of an object, or `most` bytes of it; None if it is missing."""

    def upload(self, path: Path, name: str, *, replace: bool) -> None:
        """Store a file, in parts if it is large.

        Raises:
            ExistsError: `replace` is false, and an object of this name exists.
        """

    def remove(self, name: str) -> None:
        """Delete an object, if it exists."""

    def holds(self, path: Path, name: str) -> bool:
        """Whether an object has the content of a file."""


@contextmanager
def storage_errors(
    source: Source, uri: str, kind: type[SaarthiError] = DataError
) -> Iterator[None]:
    """Convert the storage's errors into errors of this kind that name a remedy."""
    try:
        yield
    except (SaarthiError, ChangedError, ExistsError):
        raise
    except DamagedError as error:
        raise kind(f"{uri}: a download does not match its checksum; try again ({error})") from error
    except Exception as error:
        advice = source.advice(error)
        if advice is None:
            raise
        raise kind(f"{uri}: {advice} ({error})") from error
