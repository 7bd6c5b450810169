"""Folders of bundles, on a disk or in a bucket, such as `<destination>/<name>/<version>`.

The file `.served` of such a folder lists the versions that were served, the present one last.
Servers follow it, so one small write changes the served version.
"""

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from saarthi_lib.bundle.files import SERVED_BYTES, parse_served, read_small
from saarthi_lib.bundle.limits import MANIFEST_BYTES
from saarthi_lib.bundle.manifest import BundleManifest, parse_manifest
from saarthi_lib.data.cloud import ExistsError, bucket_at, is_bucket, storage_errors
from saarthi_lib.errors import BundleError
from saarthi_lib.layout import MANIFEST, SERVED_LIST
from saarthi_lib.storage import alone, whole_file, whole_folder

_CLAIM = ".claim"  # first object of a version in a bucket; its publisher writes the others
_LOCK = ".saarthi-lock"
_DEEPEST = 2  # folders between a shelf and a bundle
_KEPT = 100  # served versions that are remembered
_THREADS = 8
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_NUMBERS = re.compile(r"([0-9]+)")

Manifests = dict[str, BundleManifest | BundleError]  # by place, with errors of damaged ones


class Shelf(Protocol):
    """A folder that has bundles in folders."""

    uri: str

    def places(self) -> list[str]:
        """Paths of the complete bundles below; `.` for the folder itself."""

    def read(self, name: str, most: int) -> bytes | None:
        """Content of a small file; None if it is missing."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, or replace it."""

    def store(self, version: str, files: Mapping[str, Path]) -> bool:
        """Store a version; returns False, and changes no file, if it exists or is being stored."""

    def alone(self) -> AbstractContextManager[None]:
        """Wait until no other process writes here, as far as the storage has locks."""


def shelf_at(uri: str) -> Shelf:
    """The folder at a path, or at an address of a bucket."""
    return _BucketShelf(uri) if is_bucket(uri) else _FolderShelf(uri)


class _FolderShelf:
    def __init__(self, uri: str) -> None:
        self.uri, self._folder = uri.rstrip("/") or "/", Path(uri)

    def places(self) -> list[str]:
        found = [
            path.parent.relative_to(self._folder)
            for depth in range(_DEEPEST + 1)
            for path in self._folder.glob("*/" * depth + MANIFEST)
        ]
        return [str(place) for place in found if not _is_hidden(place.parts)]

    def read(self, name: str, most: int) -> bytes | None:
        try:
            return read_small(self._folder / name, most)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BundleError(f"{self._folder / name}: cannot be read ({error})") from error

    def write(self, name: str, content: bytes) -> None:
        with whole_file(self._folder / name) as aside:
            aside.write_bytes(content)

    def store(self, version: str, files: Mapping[str, Path]) -> bool:
        target = self._folder / version
        if target.exists():
            return False
        with whole_folder(target) as aside:
            for name, path in files.items():
                shutil.copyfile(path, aside / name)
        return True

    def alone(self) -> AbstractContextManager[None]:
        return alone(self._folder / _LOCK)


class _BucketShelf:
    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._bucket = bucket_at(uri)

    def places(self) -> list[str]:
        with self._errors():
            names = [each.name.split("/") for each in self._bucket.objects()]
        return [
            "/".join(folders) or "."
            for *folders, name in names
            if name == MANIFEST and len(folders) <= _DEEPEST and not _is_hidden(folders)
        ]

    def read(self, name: str, most: int) -> bytes | None:
        with self._errors():
            return self._bucket.read(name, most)

    def write(self, name: str, content: bytes) -> None:
        with TemporaryDirectory(prefix="saarthi-publish-") as scratch, self._errors():
            path = Path(scratch) / "file"
            path.write_bytes(content)
            self._bucket.upload(path, name, replace=True)

    def store(self, version: str, files: Mapping[str, Path]) -> bool:
        # The manifest has the digests of all files. Whoever stores it first under the name of the
        # claim has this version, also after an interruption. The manifest itself comes last.
        for name, path in {_CLAIM: files[MANIFEST], **files}.items():
            place = f"{version}/{name}"
            with self._errors():
                try:
                    self._bucket.upload(path, place, replace=False)
                except ExistsError:
                    if not self._bucket.holds(path, place):
                        return False
        return True

    def alone(self) -> AbstractContextManager[None]:
        return nullcontext()  # claims of versions instead

    def _errors(self) -> AbstractContextManager[None]:
        return storage_errors(self._bucket, self.uri, BundleError)


def _is_hidden(folders: Iterable[str]) -> bool:
    """Whether a folder is hidden, such as one that is not complete yet."""
    return any(name.startswith(".") for name in folders)


def manifests_in(shelf: Shelf) -> Manifests:
    """Read the manifests of all bundles below a shelf, in the order of their numbers."""

    def read(place: str) -> BundleManifest | BundleError:
        path = Path(shelf.uri, place, MANIFEST)
        try:
            content = shelf.read(f"{place}/{MANIFEST}".removeprefix("./"), MANIFEST_BYTES)
            if content is None:
                raise BundleError(f"{path}: was removed meanwhile; run the command again")
            return parse_manifest(content, path)
        except BundleError as error:
            return error

    places = sorted(shelf.places(), key=_by_number)
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(places, pool.map(read, places), strict=True))


def _by_number(text: str) -> list[str | int]:
    """Sort key of versions: 0.9 before 0.10."""
    # Every second part is a number. A digit such as १ stays text.
    return [int(part) if place % 2 else part for place, part in enumerate(_NUMBERS.split(text))]


def next_number(versions: Iterable[str]) -> int:
    """The whole number after all those among versions; 1 if none is a number."""
    return 1 + max((int(each) for each in versions if _NUMBER.fullmatch(each)), default=0)


def served_versions(shelf: Shelf, manifests: Manifests, folder: str = "") -> list[str]:
    """Versions that were served, the present one last.

    In a folder without `.served`, these are the published versions in the order of their creation.

    Args:
        shelf: folder that has the versions, or folders of versions.
        manifests: all bundles below the shelf.
        folder: folder of the versions in the shelf, with a slash at its end.
    """
    content = shelf.read(f"{folder}{SERVED_LIST}", SERVED_BYTES)
    if content is not None:
        return parse_served(content, f"{shelf.uri}/{folder}".rstrip("/"))
    found = [
        each
        for place, each in manifests.items()
        if isinstance(each, BundleManifest) and place == f"{folder}{each.version}"
    ]
    return [each.version for each in sorted(found, key=created)]


def created(manifest: BundleManifest) -> datetime:
    """Time of a bundle's creation."""
    return datetime.fromisoformat(manifest.created)


def write_served(shelf: Shelf, versions: Sequence[str]) -> None:
    """Serve the last one of these versions, and remember the others."""
    shelf.write(SERVED_LIST, "".join(f"{each}\n" for each in versions[-_KEPT:]).encode())
