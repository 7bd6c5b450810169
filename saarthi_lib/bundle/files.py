"""Files of a bundle: write, read, verify and sign them.

A bundle is a folder with all files for serving. `bundle.json` is written last. All files are
checked before any of them is loaded.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BufferedReader
from pathlib import Path

from saarthi_lib.bundle.limits import MANIFEST_BYTES
from saarthi_lib.bundle.manifest import (
    HOW_TO_FIX,
    BundleManifest,
    FileRecord,
    check_file_names,
    parse_manifest,
    sealed,
)
from saarthi_lib.bundle.signing import SIGNATURE_BYTES, check_signature, sign
from saarthi_lib.errors import BundleError, printable
from saarthi_lib.layout import MANIFEST, SERVED_LIST, SIGNATURE
from saarthi_lib.storage import digest_file, whole_file, whole_folder

SERVED_BYTES = 1 << 17


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
        records = {name: _copy(source, aside / name) for name, source in files.items()}
        made, content = sealed(replace(manifest, files=records), folder / MANIFEST)
        (aside / MANIFEST).write_bytes(content)
    return made


def read_manifest(folder: str | Path, trusted_keys: Sequence[Path] = ()) -> BundleManifest:
    """Read `bundle.json` and check its signature, without the other files.

    Args:
        folder: the bundle.
        trusted_keys: as for `verify_bundle`; the signature is checked before anything is parsed.

    Raises:
        BundleError: the manifest is missing or unreadable, a field of it is missing or wrong, or no
            trusted key has signed.
    """
    path = Path(folder) / MANIFEST
    content = manifest_bytes(folder)
    if trusted_keys:
        _check_signature(Path(folder), content, trusted_keys)
    return parse_manifest(content, path)


def manifest_bytes(folder: str | Path) -> bytes:
    """Content of `bundle.json`, not parsed.

    Raises:
        BundleError: it is missing, too large or not a regular file.
    """
    path = Path(folder) / MANIFEST
    try:
        return read_small(path, MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        inside = sorted(printable(str(each.parent)) for each in path.parent.glob(f"*/{MANIFEST}"))
        hint = f"; did you mean {' or '.join(inside[:5])}?" if inside else ""
        raise BundleError(f"{path}: not found, so {path.parent} is not a bundle{hint}") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error}); {HOW_TO_FIX}") from error


def read_small(path: Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes.

    Raises:
        BundleError: it is larger, a link or not a regular file.
        OSError: it cannot be read.
    """
    with _regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise BundleError(f"{path}: has more than {most} bytes; {HOW_TO_FIX}")
    return content


def served_folder(folder: Path) -> Path:
    """Return the served version in a folder of versions; another folder as it is.

    Raises:
        BundleError: the list of served versions is damaged.
    """
    try:
        served = read_small(folder / SERVED_LIST, SERVED_BYTES)
    except OSError:
        return folder
    return folder if (folder / MANIFEST).exists() else folder / parse_served(served, folder)[-1]


def parse_served(content: bytes, place: str | Path) -> list[str]:
    """Read the versions of a `.served`; `place` names its folder in errors.

    Raises:
        BundleError: it has no version, or a line is not a version.
    """
    lines = content.decode("utf-8", "replace").split("\n")
    versions = [line for line in lines if line]
    if not versions or not all(map(is_version, versions)):
        raise BundleError(
            f"{place}/{SERVED_LIST}: must list versions, one a line; name the version to serve: "
            "saarthi bundle rollback"
        )
    return versions


def is_version(name: str) -> bool:
    """Whether a version can be the name of its folder."""
    return 0 < len(name) <= 256 and name.isprintable() and "/" not in name and name[0] != "."


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
    manifest = read_manifest(folder, trusted_keys)
    for name, record in manifest.files.items():
        with _opened(folder / name, record) as file:
            _compare(hashlib.file_digest(file, "sha256").hexdigest(), folder / name, record)
    known = (MANIFEST, SIGNATURE, *manifest.files)
    with os.scandir(folder) as entries:  # not sorted: there may be millions
        for entry in entries:
            if entry.name not in known and not entry.name.startswith("."):
                raise BundleError(
                    f"{entry.path}: is not listed in {MANIFEST}; remove it from the folder"
                )
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
    signature = sign(manifest_bytes(folder), key)
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
    except OSError as error:
        raise BundleError(
            f"{folder / SIGNATURE}: cannot be read ({error}); copy it again"
        ) from error
    check_signature(content, signature, trusted_keys, str(folder))


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
