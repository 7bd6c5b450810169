"""Where bundles come from: folders, and anything that KServe's storage can fetch."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from saarthi_lib.bundle import MANIFEST
from saarthi_lib.errors import BundleError

_FILE = "file://"
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})=(.+)")


class Source:
    """A bundle's place: a folder, or a URI such as `gs://bucket/folder`.

    Args:
        uri: the place.
        name: that the model is served under; empty for the bundle's own.
    """

    def __init__(self, uri: str, name: str = "") -> None:
        self.uri = uri
        self.name = name
        self.is_local = "://" not in uri or uri.startswith(_FILE)

    def digest(self) -> str:
        """SHA-256 of the manifest as it is now, which names the digests of all other files.

        Raises:
            BundleError: it cannot be read.
        """
        if self.is_local:
            return manifest_digest(self._folder())
        with self._fetched([MANIFEST]) as folder:
            return manifest_digest(folder)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """The bundle as a folder, which may be gone when the block is left.

        Raises:
            BundleError: it cannot be fetched.
        """
        if self.is_local:
            yield self._folder()
            return
        with self._fetched(None) as folder:
            yield folder

    def _folder(self) -> Path:
        return Path(self.uri.removeprefix(_FILE)).resolve()  # a link may be turned meanwhile

    @contextmanager
    def _fetched(self, patterns: list[str] | None) -> Iterator[Path]:
        from kserve_storage import Storage

        with tempfile.TemporaryDirectory(prefix="saarthi-") as folder:
            try:
                Storage.download(self.uri, folder, allow_patterns=patterns)
            except Exception as error:  # each kind of storage has its own
                raise BundleError(
                    f"{self.uri}: cannot be fetched ({type(error).__name__}: {error}); "
                    "check the address and the service account's rights"
                ) from error
            yield Path(folder)


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


def find_sources(uris: Sequence[str]) -> list[Source]:
    """The sources of bundles; a folder that is none itself stands for the bundles in it.

    `NAME=BUNDLE` serves a bundle under another name than its own, so that two of one name (a
    student and its teacher, a version and the one before) can be served together.
    """
    sources = []
    for uri in uris:
        if named := _NAMED.fullmatch(uri):
            sources.append(Source(named[2], named[1]))
            continue
        folder = Path(uri.removeprefix(_FILE))
        inside = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
        if (folder / MANIFEST).exists() or not inside:
            sources.append(Source(uri))
        else:
            sources += [Source(str(path)) for path in inside]
    return sources
