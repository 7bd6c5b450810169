"""Files of a bundle: write, read, verify and sign them.

A bundle is a folder with all files for serving. `bundle.json` is written last. All files are
checked before any of them is loaded.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import BufferedReader
from pathlib import Path

from saarthi_lib.bundle.manifest import (
    HOW_TO_FIX,
    MAX_MANIFEST_BYTES,
    BundleManifest,
    FileRecord,
    check_file_names,
    manifest_from_dict,
    parse_manifest,
)
from saarthi_lib.bundle.signing import SIGNATURE_BYTES, check_signature, sign
from saarthi_lib.errors import BundleError
from saarthi_lib.layout import MANIFEST, SIGNATURE
from saarthi_lib.storage import digest_file, whole_file, whole_folder, write_json


def write_bundle(
    folder: str | Path, *, files: Mapping[str, Path], manifest: BundleManifest
) -> BundleManifest:
    """Copy files into a new bundle folder and write its manifest.

    The bundle is completed and flushed to disk in a sibling folder and then renamed, so `folder` is
    never half-written. An older bundle is replaced only when the new one is complete.

    Args:
        folder: the bundle to make.
        files: file to copy for each name in the bundle.
        manifest: the manifest; its `files` are replaced.

    Raises:
        BundleError: a file or field is missing or wrong; nothing was changed.
    """
    folder = Path(folder)
    check_file_names(files, folder)
    with whole_folder(folder) as aside:
        records = {name: asdict(_copy(source, aside / name)) for name, source in files.items()}
        content = {**manifest.to_dict(), "files": records}
        made = manifest_from_dict(content, folder / MANIFEST)
        write_json(aside / MANIFEST, made.to_dict())
    return made


def read_manifest(folder: str | Path) -> BundleManifest:
    """Read `bundle.json`, and none of the other files.

    Raises:
        BundleError: the manifest is missing or unreadable, or a field of it is missing or wrong.
    """
    path = Path(folder) / MANIFEST
    return parse_manifest(_read_manifest_bytes(path), path)


def verify_bundle(folder: str | Path, trusted_keys: Sequence[Path] = ()) -> BundleManifest:
    """Check every file of a bundle against its manifest, and the manifest against its signature.

    Args:
        folder: the bundle.
        trusted_keys: PEM files of Ed25519 public keys, one of which must have signed the bundle;
            without keys, no signature is required.

    Raises:
        BundleError: a file is missing, changed, a link or not listed, or no trusted key has signed.
    """
    folder = Path(folder)
    content = _read_manifest_bytes(folder / MANIFEST)
    if trusted_keys:
        _check_signature(folder, content, trusted_keys)
    manifest = parse_manifest(content, folder / MANIFEST)
    for name, record in manifest.files.items():
        with _opened(folder / name, record) as file:
            _compare(hashlib.file_digest(file, "sha256").hexdigest(), folder / name, record)
    known = (MANIFEST, SIGNATURE, *manifest.files)
    for entry in sorted(folder.iterdir()):
        if entry.name not in known and not entry.name.startswith("."):
            raise BundleError(f"{entry}: is not listed in {MANIFEST}; remove it from the folder")
    return manifest


def read_verified(folder: str | Path, manifest: BundleManifest, name: str) -> bytes:
    """Read a file of a bundle, and check these bytes against the manifest.

    Raises:
        BundleError: the file is missing, a link or changed.
    """
    path, record = Path(folder) / name, manifest.files[name]
    with _opened(path, record) as file:
        content = file.read(record.size_bytes + 1)
    _compare(hashlib.sha256(content).hexdigest(), path, record)
    return content


def sign_bundle(folder: str | Path, key: Path) -> BundleManifest:
    """Verify a bundle and write its signature next to its manifest, replacing an earlier one.

    Args:
        folder: the bundle.
        key: PEM file of a private key; see `saarthi_lib.bundle.signing.sign`.

    Raises:
        BundleError: the bundle was changed.
        ConfigError: the key cannot be used.
    """
    manifest = verify_bundle(folder)
    signature = sign(_read_manifest_bytes(Path(folder) / MANIFEST), key)
    with whole_file(Path(folder) / SIGNATURE) as aside:
        aside.write_bytes(signature)
    return manifest


def _check_signature(folder: Path, content: bytes, trusted_keys: Sequence[Path]) -> None:
    try:
        with _regular(folder / SIGNATURE) as file:
            signature = file.read(SIGNATURE_BYTES + 1)
    except FileNotFoundError as error:
        raise BundleError(
            f"{folder}: is not signed, and a signature of a trusted key is required; sign it: "
            "saarthi bundle sign"
        ) from error
    check_signature(content, signature, trusted_keys, str(folder))


def _read_manifest_bytes(path: Path) -> bytes:
    try:
        with _regular(path) as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{path}: not found, so {path.parent} is not a bundle") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error}); {HOW_TO_FIX}") from error
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path}: has more than {MAX_MANIFEST_BYTES} bytes; {HOW_TO_FIX}")
    return content


def _regular(path: Path) -> BufferedReader:
    """Open a regular file; links and files that could block are refused."""
    if path.is_symlink():
        raise BundleError(f"{path}: is a link; replace it with the file itself")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise BundleError(f"{path}: is missing or not a regular file; {HOW_TO_FIX}")
    return file


def _opened(path: Path, record: FileRecord) -> BufferedReader:
    """Open a file of a bundle, if its size matches the manifest."""
    try:
        file = _regular(path)
    except OSError as error:
        raise BundleError(f"{path}: is missing or not a regular file; {HOW_TO_FIX}") from error
    size = os.fstat(file.fileno()).st_size
    if size != record.size_bytes:
        file.close()
        raise BundleError(
            f"{path}: has {size} bytes where {MANIFEST} says {record.size_bytes}; {HOW_TO_FIX}"
        )
    return file


def _compare(digest: str, path: Path, record: FileRecord) -> None:
    if digest != record.sha256:
        raise BundleError(f"{path}: was changed after the bundle was made; {HOW_TO_FIX}")


def _copy(source: Path, target: Path) -> FileRecord:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise BundleError(f"{source}: cannot be copied into the bundle ({error})") from error
    return FileRecord(digest_file(target), target.stat().st_size)
