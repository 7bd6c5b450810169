"""Sources of bundles: folders, and every storage that KServe supports."""

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING

from predictors import clients
from saarthi_lib.addresses import BUCKETS, SERVED, checked_address, scheme_of
from saarthi_lib.bundle import BundleManifest, manifest_bytes, read_manifest
from saarthi_lib.bundle.files import SERVED_BYTES, parse_served, served_folder
from saarthi_lib.bundle.limits import ALL_BYTES, FILES, MANIFEST_BYTES, check_total
from saarthi_lib.bundle.signing import SIGNATURE_BYTES
from saarthi_lib.errors import BundleError, SaarthiError
from saarthi_lib.layout import MANIFEST, SERVED_LIST, SIGNATURE

if TYPE_CHECKING:
    from saarthi_lib.data.cloud.objects import StoredObject

TemporaryFolder = partial(TemporaryDirectory, prefix="saarthi-", ignore_cleanup_errors=True)

# Of all web addresses, only those of Azure's storage have folders and files that can be listed.
_AZURE = re.compile(r"https://[^/]+\.(blob|file)\.(core\.windows|storage\.azure)\.net/.+", re.I)
_ARCHIVES = (".zip", ".tar", ".tgz", ".taz", ".tz", ".tbz2", ".txz", ".gz", ".bz2", ".xz")
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})=(.+)")


@dataclass(frozen=True)
class BundleLimits:
    """Limits on a bundle that is fetched.

    Attributes:
        seconds: maximum time; a twentieth of it for the manifest alone.
        files: maximum number of files, besides the manifest and its signature.
        total: maximum bytes of these files.
    """

    seconds: float = 600.0
    files: int = FILES
    total: int = ALL_BYTES


class Source:
    """Source of a bundle: a folder, or an address such as `s3://bucket/folder`.

    A folder of published versions is the source of its served version.

    Args:
        uri: path or address.
        name: name of the served model; empty: the bundle's own.
        limits: limits on the bundle.

    Raises:
        BundleError: the source is an archive, a repository or a single file on the web.
        ConfigError: the scheme of the address is unknown.
    """

    def __init__(self, uri: str, name: str = "", limits: BundleLimits = BundleLimits()) -> None:
        scheme = scheme_of(uri)
        is_archive = any(part.endswith(_ARCHIVES) for part in re.split("[?#&=]", uri.lower()))
        if scheme == "oci" or (scheme not in ("", "file") and is_archive):
            raise BundleError(
                f"{uri}: is an archive, which is not supported; unpack it and give the folder"
            )
        self.uri = checked_address(uri, "bundle", SERVED)
        if scheme in ("http", "https") and not _AZURE.match(self.uri):
            raise BundleError(
                f"{uri}: is a file or repository on the web, whose signature cannot be checked "
                "before all of it is fetched; publish the bundle to a bucket, or download it and "
                "give the folder"
            )
        self.name = name
        self.is_local = not scheme_of(self.uri)
        self._limits = limits
        self._fetching: Thread | None = None

    def digest(self) -> str:
        """SHA-256 of the current manifest, which has the digests of all other files.

        Raises:
            BundleError: the manifest cannot be read.
        """
        if self.is_local:
            return manifest_digest(self._folder())
        with TemporaryFolder() as folder:
            self._fetch(folder, {MANIFEST: MANIFEST_BYTES}, self._limits.seconds / 20)
            return manifest_digest(Path(folder))

    @contextmanager
    def folder(self, trusted_keys: Sequence[Path] = ()) -> Iterator[Path]:
        """The bundle as a folder, which is valid only within the block.

        The manifest and its signature are fetched and checked before any other file.

        Args:
            trusted_keys: public keys, one of which must have signed the bundle; empty: accept
                unsigned bundles.

        Raises:
            BundleError: the bundle cannot be fetched, is not signed by a trusted key, or is larger
                than the limits.
        """
        if self.is_local:
            folder = self._folder()
            self._checked(folder, trusted_keys)
            yield folder
            return
        with TemporaryFolder() as temporary:
            first = {MANIFEST: MANIFEST_BYTES, SIGNATURE: SIGNATURE_BYTES}
            version = self._fetch(temporary, first, self._limits.seconds / 20)
            files = self._checked(Path(temporary), trusted_keys).files  # others are not needed
            sizes = {name: record.size_bytes for name, record in files.items()}
            self._fetch(temporary, sizes, self._limits.seconds, version)
            yield Path(temporary)

    def _folder(self) -> Path:
        # Resolved once: the target of a link may change meanwhile. A modelcar's link leads through
        # /proc/PID/root into another container, where only the kernel can follow it.
        folder = served_folder(Path(self.uri).absolute())
        resolved = folder.resolve()
        with suppress(OSError):
            if resolved.samefile(folder):
                return resolved
        return folder

    def wait(self) -> None:
        """Wait until the folder exists: the container of a modelcar starts at the same time.

        Raises:
            BundleError: the folder does not exist within the time limit.
        """
        end = time.monotonic() + self._limits.seconds
        while self.is_local and not os.path.isdir(self.uri):
            if time.monotonic() > end:
                raise BundleError(
                    f"{self.uri}: does not exist after {self._limits.seconds:g} s; check that the "
                    "image has the bundle's files in /models, and that its container runs as the "
                    "same user as this one"
                )
            time.sleep(0.1)

    def _checked(self, folder: Path, trusted_keys: Sequence[Path]) -> BundleManifest:
        """Read a manifest, and check its signature and the limits."""
        manifest = read_manifest(folder, trusted_keys)
        sizes = [record.size_bytes for record in manifest.files.values()]
        try:
            check_total(sizes, self.uri, self._limits.files, self._limits.total)
        except BundleError as error:
            raise BundleError(
                f"{error}; allow more (SAARTHI_MAX_BUNDLE_FILES, SAARTHI_MAX_BUNDLE_BYTES)"
            ) from None
        return manifest

    def _fetch(
        self, folder: str, sizes: Mapping[str, int], seconds: float, version: str = ""
    ) -> str:
        """Fetch files within a time limit; a hanging storage gets no second request.

        Args:
            folder: output folder.
            sizes: maximum bytes of each file, by name.
            seconds: time limit.
            version: result of an earlier call, for files of the same version.

        Returns:
            The served version, if the address is a folder of versions; else empty.
        """
        if scheme_of(self.uri) not in BUCKETS:
            clients.fetch(self.uri, Path(folder), sizes, seconds)
            return ""
        if self._fetching and self._fetching.is_alive():
            raise BundleError(f"{self.uri}: storage has still not answered the last request")
        failed: list[Exception] = []
        found: list[str] = []

        def fetch() -> None:
            try:
                found.append(_download(self.uri, Path(folder), sizes, version))
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
        return found[0]


def _download(uri: str, folder: Path, sizes: Mapping[str, int], version: str) -> str:
    """Fetch files of a bundle, or of a version, from a bucket; returns the version."""
    from saarthi_lib.data.cloud import bucket_at, storage_errors

    bucket = bucket_at(uri)

    def find(place: str) -> "dict[str, StoredObject | None]":
        return {name: bucket.find(f"{place}{name}") for name in sizes}

    with storage_errors(bucket, uri, BundleError):
        found = find(f"{version}/" if version else "")
        lacks_manifest = MANIFEST in found and found[MANIFEST] is None
        if lacks_manifest and (served := bucket.read(SERVED_LIST, SERVED_BYTES)):
            version = parse_served(served, uri)[-1]
            found = find(f"{version}/")
        place = f"{uri.rstrip('/')}/{version}" if version else uri
        lacking = [name for name, stored in found.items() if stored is None and name != SIGNATURE]
        if lacking:
            raise BundleError(f"{place}: lacks {', '.join(lacking)}, so it is not a whole bundle")
        for name, stored in found.items():
            if stored and stored.size > sizes[name]:
                raise BundleError(
                    f"{place}/{name}: has {stored.size} bytes, and must have at most "
                    f"{sizes[name]}; publish the bundle again"
                )
        for name, stored in found.items():
            if stored:
                bucket.download(stored, folder / name, sizes[name])
    return version


def manifest_digest(folder: Path) -> str:
    """SHA-256 of a bundle's manifest.

    Raises:
        BundleError: the manifest cannot be read.
    """
    return sha256(manifest_bytes(folder)).hexdigest()


def find_sources(uris: Sequence[str], limits: BundleLimits = BundleLimits()) -> list[Source]:
    """Find the sources of bundles; a folder without a bundle of its own may contain bundles.

    `NAME=BUNDLE` serves a bundle under another name, so that two bundles of one name (a student and
    its teacher, two versions) can be served together. For a modelcar (`oci://`), KServe sets
    `MODEL_INIT_MODE=async`: folders may then appear later.

    Args:
        uris: paths or URIs.
        limits: limits on each bundle.

    Raises:
        BundleError: a folder does not appear within the time limit.
    """
    sources = []
    for uri in uris:
        named = _NAMED.fullmatch(uri)
        source = Source(named[2], named[1], limits) if named else Source(uri, limits=limits)
        if os.environ.get("MODEL_INIT_MODE") == "async":
            source.wait()
        if named:
            sources.append(source)
            continue
        folder = Path(source.uri)
        inside = sorted(filter(_has_bundle, folder.glob("*"))) if source.is_local else []
        if _has_bundle(folder) or not inside:
            sources.append(source)
        else:
            sources += [Source(str(path), limits=limits) for path in inside]
    return sources


def _has_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle, or has versions of which one is served."""
    return (folder / MANIFEST).exists() or (folder / SERVED_LIST).exists()
