"""Atomic files and folders, locks, and digests.

These guarantees hold when a process is killed, the machine stops or the disk is full:

- A file or folder at its path is complete. It is written to a temporary sibling, flushed to the
  disk together with its folder, and renamed. An existing one is exchanged in one call.
- The next process that writes there removes leftovers of killed processes (without a kernel lock).
- One process at a time holds a lock; the lock file shows the process and its start.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from saarthi_lib.errors import ArtifactError, SaarthiError, StorageError
from saarthi_lib.logs import get_logger

logger = get_logger("storage")

_SAYS_FULL = os.strerror(errno.ENOSPC)  # some writers raise their own errors with this text
_MOST_JSON = 2**28  # bytes
_FULL, _FULL_BELOW = (errno.ENOSPC, errno.EDQUOT), 2**16  # bytes; some writers report no cause
_NOT_WRITABLE = (
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ELOOP),
    *(errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG),
)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL)
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
RECORD = "step.json"  # in a step's folder: its origin, and the digest of every other file
_LEFTOVER = re.compile(r"\..+\.saarthi-[0-9a-f]{8}\.(partial|old)", re.DOTALL)
_REMEDY = "remove the folder, and rerun the step that makes it"


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty sibling folder that replaces `path` when the block succeeds.

    If the block raises, `path` stays untouched.

    Raises:
        StorageError: the disk is full or not writable.
    """
    target = Path(path)
    with _disk_errors_reported(target), _aside(target, Path.mkdir) as aside:
        yield aside
        for folder, _, files in os.walk(aside):
            for name in files:
                _sync(Path(folder, name))
            _sync(Path(folder))
        if not os.path.lexists(target):
            aside.rename(target)
        elif not _exchanged(aside, target):
            old = _beside(target, "old")
            target.rename(old)
            aside.rename(target)
            _remove(old)
        _sync(target.parent)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield the path of an empty sibling file that replaces `path` when the block succeeds.

    Raises:
        StorageError: the disk is full or not writable, or the path is a folder, device or pipe.
    """
    target = Path(path)
    if os.path.exists(target) and not os.path.isfile(target):  # no error if the name is too long
        raise StorageError(f"{target}: is a folder, device or pipe; give the name of a file")
    with _disk_errors_reported(target), _aside(target, Path.touch) as aside:
        yield aside
        _sync(aside)
        aside.replace(target)
        _sync(target.parent)


def link_folder(source: Path, target: Path) -> None:
    """Copy a folder atomically; files are hard links where the disk supports them."""
    # Artifacts are replaced and never modified: either copy can be removed.
    with whole_folder(target) as aside:
        shutil.copytree(source, aside, copy_function=_link, dirs_exist_ok=True)


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copy a file atomically."""
    with whole_file(target) as aside:
        shutil.copyfile(source, aside)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically."""
    with whole_file(path) as aside:
        text = json.dumps(content, ensure_ascii=False, indent=2)
        aside.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def read_json(path: str | Path) -> Any:
    """Read JSON; raises OSError (also for pipes) or ValueError (also for deep or huge files)."""
    if Path(path).exists() and not Path(path).is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if (size := Path(path).stat().st_size) > _MOST_JSON:
        raise ValueError(f"it has {size} bytes, more than {_MOST_JSON}")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextmanager
def alone(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Run the block in one process at a time, among all processes that use this lock file.

    The kernel's lock on the file (flock) decides, also between machines that share the folder over
    NFS. It always ends with its process. A file system without locks causes a warning.

    Args:
        path: lock file; removed at the end of the block.
        wait: wait for the process that holds the lock, instead of raising.

    Raises:
        StorageError: another process holds the lock and `wait` is false, or the folder is not
            writable.
    """
    with _disk_errors_reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(path, wait)
        before = _owner(file)
        if before:
            logger.info("%s: lock taken over from %s which has ended", path.parent, before)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        owner = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
        file.truncate(0)
        file.write(json.dumps(owner))
        file.flush()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _locked(path: Path, wait: bool) -> IO[str]:
    """Open and lock the lock file, and check that `path` still leads to it."""
    while True:
        # Follow no links: the content is overwritten, and a link could lead to a user's file.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        file = os.fdopen(descriptor, "a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(file) or "another process"
            if not wait:
                file.close()
                raise StorageError(
                    f"{path.parent}: {owner} is at work in this folder; wait until it ends, or "
                    "choose another folder"
                ) from None
            logger.info("%s: waiting for %s", path, owner)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logger.warning(
                "%s: this file system has no locks (%s); run one process at a time here",
                path.parent,
                error.strerror,
            )
        with suppress(FileNotFoundError):  # the previous owner has removed it: try again
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _owner(file: IO[str]) -> str:
    """The present or last owner of the lock; empty if unknown."""
    file.seek(0)
    try:
        owner = json.loads(file.read())
        return f"process {owner['process']} on {owner['host']}, since {owner['since']},"
    except (ValueError, KeyError, TypeError):
        return ""


def remove_leftovers(folder: Path, pattern: str = "**/.*") -> None:
    """Remove leftovers of killed processes; files of living processes stay."""
    for path in list(folder.glob(pattern)):
        if _LEFTOVER.fullmatch(path.name):
            with suppress(OSError):  # in use, or just removed
                held = _hold(path, fcntl.LOCK_NB)
                _remove(path)
                os.close(held)


@contextmanager
def _aside(target: Path, make: Callable[[Path], Any]) -> Iterator[Path]:
    """Yield a new sibling of the target, locked as long as this process works on it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent, f".{target.name}.*")
    held = None
    while held is None:
        aside = _beside(target, "partial")
        make(aside)
        try:
            held = _hold(aside)
        except FileNotFoundError:
            continue
        except OSError:  # a file system without locks: leftovers stay
            break
        if not aside.exists():  # removed meanwhile as a leftover by another process
            os.close(held)
            held = None
    try:
        yield aside
    finally:
        if held is not None:
            os.close(held)
        _remove(aside)


def _beside(target: Path, kind: str) -> Path:
    """A new name that `remove_leftovers` recognizes."""
    return target.with_name(f".{target.name}.saarthi-{uuid.uuid4().hex[:8]}.{kind}")


def _hold(path: Path, flags: int = 0) -> int:
    """Open a file or folder and lock it; the lock ends with the descriptor, or the process."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two paths in one call (Linux); returns False if that is not possible."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # a folder that cannot be synced
            raise
    finally:
        os.close(descriptor)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or no hard links
        shutil.copy2(source, target)


@contextmanager
def _disk_errors_reported(target: Path) -> Iterator[None]:
    """Report a full or read-only disk as an error that the user can fix."""
    try:
        yield
    except SaarthiError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in _NOT_WRITABLE and _is_at(error, target):
            raise StorageError(
                f"{target}: cannot be written here ({error}); make the folder writable, or choose "
                "another one"
            ) from error
        if number in _FULL or _SAYS_FULL in str(error) or _is_full(target.parent):
            raise StorageError(
                f"{target}: the disk is full ({error}); free some space and run the same command "
                "again"
            ) from error
        raise


def _is_at(error: BaseException, target: Path) -> bool:
    """Whether an error concerns the target's folder, and not a path that was read."""
    named = getattr(error, "filename", None)
    return named is None or Path(os.fsdecode(named)).is_relative_to(target.parent)


def _is_full(folder: Path) -> bool:
    """Whether the disk is full; not every writer reports that."""
    while not folder.exists():
        folder = folder.parent
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize < _FULL_BELOW


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(folder: str | Path, pattern: str = "**/*") -> dict[str, str]:
    """SHA-256 of each file below a folder (or of one file), by its name within it, sorted."""
    root = Path(folder)
    paths = [root] if root.is_file() else sorted(filter(Path.is_file, root.glob(pattern)))
    return {path.relative_to(root).as_posix(): digest_file(path) for path in paths}


def digest_folder(folder: str | Path, pattern: str = "**/*", without: Path | None = None) -> str:
    """SHA-256 over the names and contents of the files below a folder, in hexadecimal."""
    total = hashlib.sha256()
    left_out = without.resolve() if without else None
    for name, digest in digest_files(folder, pattern).items():
        if not (left_out and Path(folder, name).resolve().is_relative_to(left_out)):
            total.update(f"{name}\0{digest}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def digest_json(content: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def verify_files(folder: str | Path, digests: Mapping[str, str]) -> None:
    """Check files of a folder against the result of `digest_files` when they were written.

    Raises:
        ArtifactError: names the first file that is missing, cut short or changed.
    """
    for name, digest in digests.items():
        path = Path(folder, name)
        try:
            found = digest_file(path)
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from error
        if found != digest:
            raise ArtifactError(f"{path}: is not as it was written; {_REMEDY}")


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `step.json`: the record, and the digest of every file in the folder."""
    write_json(folder / RECORD, {**record, "files": digest_files(folder)})


def verify_record(folder: Path) -> None:
    """Check a folder against the digests in its `step.json`.

    A folder without one, such as a teacher from elsewhere, is accepted unchecked.

    Raises:
        ArtifactError: names the file that is missing, cut short or changed.
    """
    try:
        files = dict(read_json(folder / RECORD)["files"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder / RECORD}: cannot be read ({error}); {_REMEDY}") from error
    verify_files(folder, files)


def folder_size(folder: str | Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
