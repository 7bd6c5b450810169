"""Publish a bundle to a folder or to Google Cloud Storage, where services fetch it.

A version is stored at `<destination>/<name>/<version>`. It is complete or absent, and never
changes: `bundle.json`, which lists all other files with their digests, is written last.
"""

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from saarthi_lib.bundle.files import read_manifest, verify_bundle
from saarthi_lib.bundle.manifest import BundleManifest, parse_manifest
from saarthi_lib.data.cloud import is_remote, retry, storage_client, storage_errors
from saarthi_lib.errors import BundleError, SaarthiError
from saarthi_lib.layout import MANIFEST, SIGNATURE
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import whole_folder

logger = get_logger("publishing")

_LOOKUP_TIMEOUT = 10.0  # seconds
_FILE = "file://"


def publish_bundle(bundle: Path, destination: str) -> str:
    """Copy a verified bundle to `<destination>/<name>/<version>`.

    Publishing the same bundle again is safe, so a failed step can be retried.

    Args:
        bundle: bundle folder.
        destination: folder or `gs://bucket/folder`. `STORAGE_EMULATOR_HOST` is honoured.

    Returns:
        Path or URI of the published bundle.

    Raises:
        BundleError: the bundle was changed, damaged or made in a trial run, its version already
            exists with different content, or the storage fails.
    """
    manifest = verify_bundle(bundle)
    if manifest.trial:
        raise trial_error(str(bundle), "published")
    if "/" in manifest.version or manifest.version.startswith("."):
        raise BundleError(
            f"{bundle}: the version {manifest.version!r} cannot be a folder's name; set "
            "bundle_version to a name without '/'"
        )
    place = f"{manifest.name}/{manifest.version}"
    if is_remote(destination):
        uri = f"{destination.rstrip('/')}/{place}"
        _upload(bundle, manifest, uri)
    else:
        target = Path(destination) / place
        _copy(bundle, manifest, target)
        uri = str(target)
    logger.info("bundle %s version %s: published to %s", manifest.name, manifest.version, uri)
    return uri


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
    bucket_name, _, folder = uri.removeprefix("gs://").partition("/")
    with storage_errors(uri, BundleError):
        bucket = storage_client().bucket(bucket_name)
        existing = bucket.get_blob(f"{folder}/{MANIFEST}", retry=retry())
        if existing is not None:
            if existing.download_as_bytes(retry=retry()) != (bundle / MANIFEST).read_bytes():
                raise _taken(uri)
            return
        for name in _names(bundle, manifest):
            _upload_file(bucket, f"{folder}/{name}", bundle / name, uri)


def _upload_file(bucket: Any, name: str, path: Path, uri: str) -> None:
    """Upload a file, in parts if large; skip it if the same file exists."""
    import base64
    import hashlib

    from google.api_core.exceptions import PreconditionFailed

    try:
        bucket.blob(name).upload_from_filename(
            path, if_generation_match=0, checksum="crc32c", retry=retry()
        )
    except PreconditionFailed:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").digest()
        existing = bucket.get_blob(name, retry=retry())
        if existing is None or existing.md5_hash != base64.b64encode(digest).decode():
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
    place = f"{destination.rstrip('/')}/{name}"
    if is_remote(destination):
        contents = _remote_manifests(f"{place}/")
    else:
        contents = [path.read_bytes() for path in Path(place).glob(f"*/{MANIFEST}")]
    manifests = [parse_manifest(content, Path(place)) for content in contents]
    return max(manifests, key=lambda each: datetime.fromisoformat(each.created), default=None)


def manifest_at(uri: str) -> BundleManifest | None:
    """Return the manifest of the bundle in a folder or at a `gs://` URI; None if unreadable."""
    try:
        if is_remote(uri):
            return parse_manifest(_remote_manifest(uri), Path(uri))
        if "://" in uri.removeprefix(_FILE):
            return None
        return read_manifest(uri.removeprefix(_FILE))
    except (OSError, ValueError, ImportError, SaarthiError):
        return None


def _remote_manifest(uri: str) -> bytes:
    """Content of the manifest, without retries: a rollout may run without access to storage."""
    bucket, _, folder = uri.removeprefix("gs://").rstrip("/").partition("/")
    with storage_errors(uri, BundleError):
        blob = storage_client().bucket(bucket).blob(f"{folder}/{MANIFEST}")
        content: bytes = blob.download_as_bytes(timeout=_LOOKUP_TIMEOUT, retry=None)
        return content


def _remote_manifests(uri: str) -> list[bytes]:
    bucket, _, folder = uri.removeprefix("gs://").partition("/")
    with storage_errors(uri, BundleError):
        blobs = storage_client().list_blobs(bucket, prefix=folder, retry=retry())
        manifests = [blob for blob in blobs if blob.name.endswith(f"/{MANIFEST}")]
        return [blob.download_as_bytes(retry=retry()) for blob in manifests]
