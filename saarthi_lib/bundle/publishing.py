"""Publish a bundle to a folder or to a bucket, where services fetch it.

A version is stored at `<destination>/<name>/<version>`. It is complete or absent, and never
changes: `bundle.json`, which lists all other files with their digests, is written last.
"""

import shutil
from datetime import datetime
from pathlib import Path

from saarthi_lib.addresses import BUCKETS, DEPLOYED, checked_address, scheme_of
from saarthi_lib.bundle.files import manifest_bytes, read_manifest, verify_bundle
from saarthi_lib.bundle.limits import MANIFEST_BYTES
from saarthi_lib.bundle.manifest import BundleManifest, parse_manifest
from saarthi_lib.data.cloud import ExistsError, bucket_at, is_bucket, storage_errors
from saarthi_lib.errors import BundleError, SaarthiError
from saarthi_lib.layout import MANIFEST, SIGNATURE
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import whole_folder

logger = get_logger("publishing")

_LOOKUP_TIMEOUT = 10.0  # seconds


def publish_bundle(bundle: Path, destination: str) -> str:
    """Copy a verified bundle to `<destination>/<name>/<version>`.

    Publishing the same bundle again is safe, so a failed step can be retried.

    Args:
        bundle: bundle folder.
        destination: folder, `s3://bucket/folder` or `gs://bucket/folder`.

    Returns:
        Path or URI of the published bundle.

    Raises:
        BundleError: the bundle was changed, damaged or made in a trial run, its version already
            exists with different content, or the storage fails.
        ConfigError: the destination has an unknown scheme.
    """
    destination = publish_address(destination)
    manifest = verify_bundle(bundle)
    if manifest.trial:
        raise trial_error(str(bundle), "published")
    if "/" in manifest.version or manifest.version.startswith("."):
        raise BundleError(
            f"{bundle}: the version {manifest.version!r} cannot be a folder's name; set "
            "bundle_version to a name without '/'"
        )
    place = f"{manifest.name}/{manifest.version}"
    if is_bucket(destination):
        uri = f"{destination.rstrip('/')}/{place}"
        _upload(bundle, manifest, uri)
    else:
        target = Path(destination) / place
        _copy(bundle, manifest, target)
        uri = str(target)
    logger.info("bundle %s version %s: published to %s", manifest.name, manifest.version, uri)
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


def _names(bundle: Path, manifest: BundleManifest) -> tuple[str, ...]:
    """Names of a bundle's files, manifest last."""
    signature = [SIGNATURE] if (bundle / SIGNATURE).is_file() else []
    return (*manifest.files, *signature, MANIFEST)


def _copy(bundle: Path, manifest: BundleManifest, target: Path) -> None:
    if target.exists():
        existing = target / MANIFEST
        content = existing.read_bytes() if existing.is_file() else None
        if content != (bundle / MANIFEST).read_bytes():
            raise _taken(str(target))
        return
    with whole_folder(target) as aside:
        for name in _names(bundle, manifest):
            shutil.copyfile(bundle / name, aside / name)


def _upload(bundle: Path, manifest: BundleManifest, uri: str) -> None:
    bucket = bucket_at(uri)
    with storage_errors(bucket, uri, BundleError):
        existing = bucket.read(MANIFEST)
        if existing is not None:
            if existing != (bundle / MANIFEST).read_bytes():
                raise _taken(uri)
            return
        for name in _names(bundle, manifest):
            try:
                bucket.upload(bundle / name, name, replace=False)
            except ExistsError:  # of an interrupted upload
                if not bucket.holds(bundle / name, name):
                    raise _taken(uri) from None


def _taken(uri: str) -> BundleError:
    return BundleError(
        f"{uri}: this version already exists with another content, and a published version never "
        "changes; set another bundle_version, or delete the old one if it is not served"
    )


def latest_published(destination: str, name: str) -> BundleManifest | None:
    """Return the manifest of the newest bundle with this name; None if none is published.

    Raises:
        BundleError: the storage fails, or a published manifest is wrong.
    """
    place = f"{publish_address(destination).rstrip('/')}/{name}"
    if is_bucket(place):
        contents = _remote_manifests(place)
    else:
        contents = [manifest_bytes(path.parent) for path in Path(place).glob(f"*/{MANIFEST}")]
    manifests = [parse_manifest(content, Path(place)) for content in contents]
    return max(manifests, key=lambda each: datetime.fromisoformat(each.created), default=None)


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


def _remote_manifests(uri: str) -> list[bytes]:
    bucket = bucket_at(uri)
    with storage_errors(bucket, uri, BundleError):
        names = [each.name for each in bucket.objects() if each.name.endswith(f"/{MANIFEST}")]
        return [
            content for name in names if (content := bucket.read(name, MANIFEST_BYTES)) is not None
        ]
