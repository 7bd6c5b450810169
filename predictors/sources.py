"""Sources of bundles: folders, and every storage that KServe supports."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from saarthi_lib.addresses import SERVED, checked_address, scheme_of
from saarthi_lib.bundle import read_manifest
from saarthi_lib.errors import BundleError, SaarthiError
from saarthi_lib.layout import MANIFEST, SIGNATURE

TemporaryFolder = partial(TemporaryDirectory, prefix="saarthi-", ignore_cleanup_errors=True)

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})=(.+)")


class Source:
    """Source of a bundle: a folder, or an address such as `s3://bucket/folder`.

    Args:
        uri: path or address.
        name: name of the served model; empty: the bundle's own.
        seconds: maximum time for fetching the bundle.

    Raises:
        BundleError: the source is an archive.
        ConfigError: the scheme of the address is unknown.
    """

    def __init__(self, uri: str, name: str = "", seconds: float = 600.0) -> None:
        scheme = scheme_of(uri)
        if scheme == "oci" or (scheme not in ("", "file") and uri.endswith(_ARCHIVES)):
            raise BundleError(
                f"{uri}: is an archive, which is not supported; unpack it and give the folder"
            )
        self.uri = checked_address(uri, "bundle", SERVED)
        self.name = name
        self.is_local = not scheme_of(self.uri)
        self._seconds = seconds
        self._fetching: Thread | None = None

    def digest(self) -> str:
        """SHA-256 of the current manifest, which has the digests of all other files.

        Raises:
            BundleError: the manifest cannot be read.
        """
        if self.is_local:
            return manifest_digest(self._folder())
        with TemporaryFolder() as folder:
            self._fetch(folder, [MANIFEST], self._seconds / 20)
            return manifest_digest(Path(folder))

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """The bundle as a folder, which is valid only within the block.

        Raises:
            BundleError: the bundle cannot be fetched.
        """
        if self.is_local:
            yield self._folder()
            return
        with TemporaryFolder() as folder:
            self._fetch(folder, [MANIFEST, SIGNATURE], self._seconds / 20)
            names = read_manifest(folder).files  # other files are not needed
            self._fetch(folder, list(names), self._seconds)
            yield Path(folder)

    def _folder(self) -> Path:
        # Resolved once: the target of a link may change meanwhile.
        return Path(self.uri).resolve()

    def _fetch(self, folder: str, names: list[str], seconds: float) -> None:
        """Fetch files within a time limit; a hanging storage gets no second request."""
        if self._fetching and self._fetching.is_alive():
            raise BundleError(f"{self.uri}: storage has still not answered the last request")
        failed: list[Exception] = []

        def fetch() -> None:
            try:
                _download(self.uri, Path(folder), names)
            except Exception as error:  # each kind of storage has its own errors
                failed.append(error)

        # Storage clients cannot be cancelled, so a hanging thread stays behind.
        self._fetching = Thread(target=fetch, name="fetch", daemon=True)
        self._fetching.start()
        self._fetching.join(seconds)
        if self._fetching.is_alive():
            raise BundleError(
                f"{self.uri}: storage has not answered within {seconds:g} s; try again, or allow "
                "more time (SAARTHI_FETCH_SECONDS)"
            )
        for error in failed:
            if isinstance(error, SaarthiError):
                raise error
            raise BundleError(
                f"{self.uri}: cannot be fetched ({type(error).__name__}: {error}); "
                "check the address and the service account's rights"
            ) from error


def _download(uri: str, folder: Path, names: Sequence[str]) -> None:
    if scheme_of(uri) != "s3":
        from kserve_storage import Storage

        Storage.download(uri, str(folder), allow_patterns=list(names))
        return
    # KServe's client forks for S3, and a process with threads may hang after that.
    from saarthi_lib.data.cloud import bucket_at, storage_errors

    bucket = bucket_at(uri)
    with storage_errors(bucket, uri, BundleError):
        found = {each.name: each for each in bucket.objects()}
        if lacking := [name for name in names if name not in found and name != SIGNATURE]:
            raise BundleError(f"{uri}: lacks {', '.join(lacking)}, so it is not a whole bundle")
        for name in found.keys() & names:
            bucket.download(found[name], folder / name)


def manifest_digest(folder: Path) -> str:
    """SHA-256 of a bundle's manifest.

    Raises:
        BundleError: the manifest cannot be read.
    """
    try:
        return sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(
            f"{folder / MANIFEST}: cannot be read ({error.strerror}), so {folder} is not a bundle"
        ) from error


def find_sources(uris: Sequence[str], seconds: float = 600.0) -> list[Source]:
    """Find the sources of bundles; a folder that is not a bundle may contain bundles.

    `NAME=BUNDLE` serves a bundle under another name, so that two bundles of one name (a student and
    its teacher, two versions) can be served together.

    Args:
        uris: paths or URIs.
        seconds: maximum time for fetching one bundle.
    """
    sources = []
    for uri in uris:
        if named := _NAMED.fullmatch(uri):
            sources.append(Source(named[2], named[1], seconds))
            continue
        source = Source(uri, seconds=seconds)
        folder = Path(source.uri)
        inside = sorted(folder.glob(f"*/{MANIFEST}")) if source.is_local else []
        if (folder / MANIFEST).exists() or not inside:
            sources.append(source)
        else:
            sources += [Source(str(path.parent)) for path in inside]
    return sources
