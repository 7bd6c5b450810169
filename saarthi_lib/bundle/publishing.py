"""Publish a bundle to a folder or to a bucket, where services fetch it.

A version is stored at `<destination>/<name>/<version>`. It is complete or absent, and never
changes: `bundle.json`, which lists all other files with their digests, is written last.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from saarthi_lib.addresses import BUCKETS, DEPLOYED, checked_address, scheme_of
from saarthi_lib.bundle.files import (
    is_version,
    manifest_bytes,
    read_manifest,
    read_verified,
    verify_bundle,
)
from saarthi_lib.bundle.limits import MANIFEST_BYTES
from saarthi_lib.bundle.manifest import (
    TRAINING_CONFIG,
    BundleManifest,
    FileRecord,
    parse_manifest,
    sealed,
)
from saarthi_lib.bundle.shelf import (
    Manifests,
    Shelf,
    created,
    manifests_in,
    next_number,
    served_versions,
    shelf_at,
    write_served,
)
from saarthi_lib.bundle.signing import SIGNATURE_BYTES, sign
from saarthi_lib.data.cloud import bucket_at, is_bucket, storage_errors
from saarthi_lib.errors import BundleError, ConfigError, SaarthiError
from saarthi_lib.json_text import parse_json
from saarthi_lib.layout import MANIFEST, SIGNATURE
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import digest_file, write_json

logger = get_logger("publishing")

_LOOKUP_TIMEOUT = 10.0  # seconds


class Published(NamedTuple):
    """A bundle below an address.

    Attributes:
        uri: path or address of the bundle.
        manifest: its manifest, or the error if that cannot be read.
        state: `served`, `previous` (which a rollback serves) or empty.
    """

    uri: str
    manifest: BundleManifest | BundleError
    state: str


@dataclass(frozen=True)
class _Given:
    """A verified bundle that is published, and the key that signs it."""

    bundle: Path
    manifest: BundleManifest
    key: Path | None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration that the bundle was trained with; empty if that is unknown."""
        try:
            content = parse_json(read_verified(self.bundle, self.manifest, TRAINING_CONFIG))
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    @property
    def version(self) -> str:
        """The bundle's own version; empty if none was given."""
        return "" if self.config.get("bundle_version") == "" else self.manifest.version

    @property
    def is_signed(self) -> bool:
        """Whether the bundle has a signature."""
        return (self.bundle / SIGNATURE).is_file()

    def is_at(self, other: BundleManifest, version: str) -> bool:
        """Whether another manifest is that of this bundle under a version."""
        is_same = self._anonymous(self.manifest) == self._anonymous(other)
        return is_same and other.version == version

    def files(self, version: str, scratch: Path) -> dict[str, Path]:
        """Files of the bundle under a version, manifest last; changed ones are in `scratch`."""
        files = {name: self.bundle / name for name in self.manifest.files}
        content = manifest_bytes(self.bundle)
        if version != self.version:
            files[TRAINING_CONFIG] = scratch / TRAINING_CONFIG
            write_json(files[TRAINING_CONFIG], {**self.config, "bundle_version": version})
            size = files[TRAINING_CONFIG].stat().st_size
            record = FileRecord(digest_file(files[TRAINING_CONFIG]), size)
            records = {**self.manifest.files, TRAINING_CONFIG: record}
            made = replace(self.manifest, version=version, files=records)
            _, content = sealed(made, self.bundle / MANIFEST)
        if self.key is not None:
            files[SIGNATURE] = scratch / SIGNATURE
            files[SIGNATURE].write_bytes(sign(content, self.key))
        elif self.is_signed:
            files[SIGNATURE] = self.bundle / SIGNATURE
        files[MANIFEST] = scratch / MANIFEST
        files[MANIFEST].write_bytes(content)
        return files

    @staticmethod
    def _anonymous(manifest: BundleManifest) -> BundleManifest:
        files = {n: record for n, record in manifest.files.items() if n != TRAINING_CONFIG}
        return replace(manifest, version="", digest=None, files=files)


def publish_bundle(
    bundle: Path, destination: str, version: str = "", key: Path | None = None
) -> str:
    """Copy a verified bundle to `<destination>/<name>/<version>`, and let servers serve it.

    A bundle without a version of its own gets the next whole number. Publishing the same bundle
    again is safe, so a failed step can be retried.

    Args:
        bundle: bundle folder.
        destination: folder, `s3://bucket/folder` or `gs://bucket/folder`.
        version: version to publish; empty: the bundle's own, or the next number.
        key: private key that signs the published bundle.

    Returns:
        Path or URI of the published bundle.

    Raises:
        BundleError: the bundle was changed, damaged or made in a trial run, its version already
            exists with different content or cannot be given to a signed bundle, or the storage
            fails.
        ConfigError: the destination has an unknown scheme, or the key cannot be used.
    """
    if not destination:
        raise ConfigError("the destination is empty; give a folder or the address of a bucket")
    destination = publish_address(destination)
    manifest = verify_bundle(bundle)
    if manifest.trial:
        raise trial_error(str(bundle), "published")
    given = _Given(bundle, manifest, key)
    version = version or given.version
    _check_version(given, version)
    shelf = shelf_at(f"{destination.rstrip('/')}/{manifest.name}")
    with shelf.alone(), TemporaryDirectory(prefix="saarthi-publish-") as scratch:
        bundles = manifests_in(shelf)
        served = served_versions(shelf, bundles)
        if version:
            is_new = _store(shelf, version, given.files(version, Path(scratch)))
        else:
            version, is_new = _store_next(shelf, given, bundles, served, Path(scratch))
        if is_new or version not in served:
            write_served(shelf, [*(each for each in served if each != version), version])
            served = [version]
    uri = f"{shelf.uri}/{version}"
    if served[-1] != version:
        logger.warning(
            "%s: was published before, and version %s stays served; to serve this one: saarthi "
            "bundle rollback %s %s",
            *(uri, served[-1], shelf.uri, version),
        )
    logger.info("bundle %s version %s: published to %s", manifest.name, version, uri)
    return uri


def publish_address(destination: str, what: str = "publish_to") -> str:
    """Check a destination: a folder, or an address of a bucket.

    Raises:
        ConfigError: the scheme is unknown; the message lists the known ones.
    """
    return checked_address(destination, what, BUCKETS)


def trial_error(uri: str, done: str) -> BundleError:
    """Create the error for a trial run's bundle; `done` is the refused action ("published")."""
    return BundleError(
        f"{uri}: is the bundle of a trial run, whose answers mean nothing, and is not {done}; set "
        "fast_dev_run: false, run again, and use the new bundle"
    )


def _check_version(given: _Given, version: str) -> None:
    if version and not is_version(version):
        raise BundleError(
            f"{given.bundle}: the version {version!r} cannot be a folder's name; choose one "
            "without '/' and without a dot as its first character"
        )
    if given.is_signed and given.key is None and (not version or version != given.version):
        raise BundleError(
            f"{given.bundle}: is signed without the version that it gets when it is published; "
            "give --key, which signs the published bundle, or set bundle_version and sign it again"
        )


def _store(shelf: Shelf, version: str, files: Mapping[str, Path]) -> bool:
    """Store the files of a bundle under this version; False if they are stored already."""
    place = f"{shelf.uri}/{version}"
    existing = shelf.read(f"{version}/{MANIFEST}", MANIFEST_BYTES)
    if existing is None and shelf.store(version, files):
        return True
    if existing != files[MANIFEST].read_bytes():
        raise BundleError(
            f"{place}: this version already exists with another content, and a published version "
            "never changes; choose another version, or publish a bundle without bundle_version, "
            "which gets the next number"
        )
    if SIGNATURE in files and not _is_signed(shelf, version, files[SIGNATURE].read_bytes()):
        raise BundleError(
            f"{place}: this version already exists without this signature; choose another version"
        )
    return False


def _store_next(
    shelf: Shelf, given: _Given, bundles: Manifests, served: Iterable[str], scratch: Path
) -> tuple[str, bool]:
    """Store a bundle under the next number; returns the version, and False if it was stored."""
    for version, each in bundles.items():
        is_same = not isinstance(each, BundleError) and given.is_at(each, version)
        if is_same and (given.key is not None) == _is_signed(shelf, version):
            return version, False
    number = next_number([*bundles, *served])
    while not shelf.store(str(number), given.files(str(number), scratch)):  # taken meanwhile
        number += 1
    return str(number), True


def _is_signed(shelf: Shelf, version: str, signature: bytes | None = None) -> bool:
    """Whether a stored version has a signature, or this signature."""
    found = shelf.read(f"{version}/{SIGNATURE}", SIGNATURE_BYTES)
    return found is not None if signature is None else found == signature


def roll_back(uri: str, version: str = "") -> tuple[str, str]:
    """Let servers serve the version before, or a given one; no version is changed or removed.

    Args:
        uri: folder of the versions: `<destination>/<name>`.
        version: version to serve; empty: the one that was served before the present one.

    Returns:
        The version served until now, and the one served from now on.

    Raises:
        BundleError: the version is missing, or the storage fails.
        ConfigError: the address has an unknown scheme.
    """
    shelf = shelf_at(publish_address(uri, ""))
    bundles = manifests_in(shelf)
    known = [
        place
        for place, each in bundles.items()
        if isinstance(each, BundleManifest) and each.version == place
    ]
    if not known:
        names = [place.partition("/")[0] for place in bundles if "/" in place]
        hint = f"such as {shelf.uri}/{names[0]}" if names else "correct the address"
        raise BundleError(f"{uri}: has no published versions; give <destination>/<name>, {hint}")
    with shelf.alone():
        served = _served_until_now(shelf, bundles, version)
        before = served[-1] if served else ""
        if not version:
            kept = served[:-1]
        elif version in served:
            kept = served[: served.index(version) + 1]
        else:
            kept = [*served, version]
        if not kept or kept[-1] not in known:
            lacking = f"has no version {kept[-1]}" if kept else "no other version was served before"
            raise BundleError(
                f"{uri}: {lacking}; name the version to serve, one of {', '.join(known)}"
            )
        write_served(shelf, kept)
    logger.info("%s: version %s is served, and no longer %s", uri, kept[-1], before)
    return before, kept[-1]


def _served_until_now(shelf: Shelf, bundles: Manifests, wanted: str) -> list[str]:
    """Versions that were served; a damaged list is ignored if another version is wanted."""
    try:
        return served_versions(shelf, bundles)
    except BundleError:
        if not wanted:
            raise
        return []


def list_bundles(uri: str) -> list[Published]:
    """List the bundles at an address: of one name, or of all names of a destination.

    Raises:
        BundleError: none is found, or the storage fails.
        ConfigError: the address has an unknown scheme.
    """
    shelf = shelf_at(publish_address(uri, ""))
    bundles = manifests_in(shelf)
    shallowest = min((place.count("/") for place in bundles), default=0)
    bundles = {place: each for place, each in bundles.items() if place.count("/") == shallowest}
    if not bundles:
        raise BundleError(
            f"{uri}: has no bundles; give the folder of a run, or an address that bundles were "
            "published to"
        )
    states: dict[str, str] = {}
    for folder in {place[: place.rfind("/") + 1] for place in bundles}:
        *_, previous, served = ["", "", *served_versions(shelf, bundles, folder)]
        states |= {f"{folder}{previous}": "previous", f"{folder}{served}": "served"}
    return [
        Published(f"{shelf.uri}/{place}".removesuffix("/."), each, states.get(place, ""))
        for place, each in bundles.items()
    ]


def latest_published(destination: str, name: str) -> BundleManifest | None:
    """Return the manifest of the newest bundle with this name; None if none is published.

    Raises:
        BundleError: the storage fails, or a published manifest is wrong.
    """
    shelf = shelf_at(f"{publish_address(destination).rstrip('/')}/{name}")
    found = [each for place, each in manifests_in(shelf).items() if "/" not in place]
    for each in found:
        if isinstance(each, BundleError):
            raise each
    manifests = [each for each in found if isinstance(each, BundleManifest)]
    return max(manifests, key=created, default=None)


def published_manifest(uri: str) -> BundleManifest:
    """Return the manifest of a published bundle.

    Raises:
        BundleError: it is missing or damaged, or the storage fails.
    """
    content = shelf_at(uri).read(MANIFEST, MANIFEST_BYTES)
    if content is None:
        raise BundleError(f"{uri}: has no {MANIFEST}; publish the bundle again")
    return parse_manifest(content, Path(uri))


def manifest_at(uri: str) -> BundleManifest | None:
    """Return the manifest of the bundle in a folder or a bucket; None if unreadable.

    Raises:
        ConfigError: the scheme is unknown.
    """
    uri = checked_address(uri, "bundle", DEPLOYED)
    try:
        if is_bucket(uri):
            content = _remote_manifest(uri)
            return parse_manifest(content, Path(uri)) if content is not None else None
        return None if scheme_of(uri) else read_manifest(uri)
    except (OSError, ValueError, ImportError, SaarthiError):
        return None


def _remote_manifest(uri: str) -> bytes | None:
    """Content of the manifest, without retries: a rollout may run without access to storage."""
    bucket = bucket_at(uri, _LOOKUP_TIMEOUT)
    with storage_errors(bucket, uri, BundleError):
        return bucket.read(MANIFEST, MANIFEST_BYTES)
