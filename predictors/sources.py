"""Where bundles come from: folders, and anything that KServe's storage can fetch."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from saarthi_lib.bundle import MANIFEST, SIGNATURE, read_manifest
from saarthi_lib.errors import BundleError

TemporaryFolder = partial(TemporaryDirectory, prefix="saarthi-", ignore_cleanup_errors=True)

_FILE = "file://"
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})=(.+)")


class Source:
    """A bundle's place: a folder, or a URI such as `gs://bucket/folder`.

    Args:
        uri: the place.
        name: that the model is served under; empty for the bundle's own.
        seconds: most that storage may take.

    Raises:
        BundleError: the place is an archive.
    """

    def __init__(self, uri: str, name: str = "", seconds: float = 600.0) -> None:
        self.uri = uri
        self.name = name
        self.is_local = "://" not in uri or uri.startswith(_FILE)
        self._seconds = seconds
        self._fetching: Thread | None = None
        if not self.is_local and (uri.startswith("oci://") or uri.endswith(_ARCHIVES)):
            raise BundleError(
                f"{uri}: is an archive, of which nobody knows what it unpacks to; unpack it, and "
                "give the folder"
            )

    def digest(self) -> str:
        """SHA-256 of the manifest as it is now, which names the digests of all other files.

        Raises:
            BundleError: it cannot be read.
        """
        if self.is_local:
            return manifest_digest(self._folder())
        with TemporaryFolder() as folder:
            self._fetch(folder, [MANIFEST], self._seconds / 20)
            return manifest_digest(Path(folder))

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """The bundle as a folder, which may be gone when the block is left.

        Raises:
            BundleError: it cannot be fetched.
        """
        if self.is_local:
            yield self._folder()
            return
        with TemporaryFolder() as folder:
            self._fetch(folder, [MANIFEST, SIGNATURE], self._seconds / 20)
            names = read_manifest(folder).files  # what else is there nobody wants
            self._fetch(folder, list(names), self._seconds)
            yield Path(folder)

    def _folder(self) -> Path:
        return Path(self.uri.removeprefix(_FILE)).resolve()  # a link may be turned meanwhile

    def _fetch(self, folder: str, names: list[str], seconds: float) -> None:
        """Fetch files; storage that hangs is waited for no longer than allowed, and asked once."""
        if self._fetching and self._fetching.is_alive():
            raise BundleError(f"{self.uri}: storage has still not answered what it was last asked")
        failed: list[Exception] = []

        def fetch() -> None:
            from kserve_storage import Storage

            try:
                Storage.download(self.uri, folder, allow_patterns=names)
            except Exception as error:  # each kind of storage has its own
                failed.append(error)

        # The clients of storage cannot be told to stop, so the thread is left behind.
        self._fetching = Thread(target=fetch, name="fetch", daemon=True)
        self._fetching.start()
        self._fetching.join(seconds)
        if self._fetching.is_alive():
            raise BundleError(
                f"{self.uri}: storage has not answered within {seconds:g} s; it is tried again, or "
                "allow more (SAARTHI_FETCH_SECONDS)"
            )
        for error in failed:
            raise BundleError(
                f"{self.uri}: cannot be fetched ({type(error).__name__}: {error}); "
                "check the address and the service account's rights"
            ) from error


def manifest_digest(folder: Path) -> str:
    """SHA-256 of a bundle's manifest.

    Raises:
        BundleError: it cannot be read.
    """
    try:
        return sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(
            f"{folder / MANIFEST}: cannot be read ({error.strerror}), so {folder} is not a bundle"
        ) from error


def find_sources(uris: Sequence[str], seconds: float = 600.0) -> list[Source]:
    """The sources of bundles; a folder that is none itself stands for the bundles in it.

    `NAME=BUNDLE` serves a bundle under another name than its own, so that two of one name (a
    student and its teacher, a version and the one before) can be served together.

    Args:
        uris: the places.
        seconds: most that storage may take for one.
    """
    sources = []
    for uri in uris:
        if named := _NAMED.fullmatch(uri):
            sources.append(Source(named[2], named[1], seconds))
            continue
        folder = Path(uri.removeprefix(_FILE))
        inside = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
        if (folder / MANIFEST).exists() or not inside:
            sources.append(Source(uri, seconds=seconds))
        else:
            sources += [Source(str(path)) for path in inside]
    return sources
