"""Files and folders that appear whole or not at all, and digests of what they hold."""

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place once the block has succeeded.

    When the block raises, the folder is removed and what stood at `path` stays untouched.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    aside.mkdir()
    try:
        yield aside
        _sync(aside)
        if target.is_symlink():  # what it leads to is another's and stays
            target.unlink()
        if target.exists():
            old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
            target.rename(old)
            aside.rename(target)
            shutil.rmtree(old)
        else:
            aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def link_folder(source: Path, target: Path) -> None:
    """Give a folder a second place, whole or not at all; its files are shared where the disk can.

    Files of artifacts are replaced and never written to, so either place can be removed.
    """
    with whole_folder(target) as aside:
        shutil.copytree(source, aside, copy_function=_link, dirs_exist_ok=True)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time into the block, of all that name this file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` that takes its place once the block has succeeded."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    with whole_file(path) as aside:
        text = json.dumps(content, ensure_ascii=False, indent=2)
        aside.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read JSON; errors are those of `open` and `json`."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: str | Path, pattern: str = "**/*") -> str:
    """SHA-256 over the names and contents of the files below a folder, in hexadecimal."""
    root = Path(folder)
    total = hashlib.sha256()
    for path in sorted(path for path in root.glob(pattern) if path.is_file()):
        total.update(f"{path.relative_to(root).as_posix()}\0{digest_file(path)}\n".encode())
    return total.hexdigest()


def digest_json(content: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def folder_size(folder: str | Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that cannot
        shutil.copy2(source, target)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
