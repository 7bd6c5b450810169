"""Folders, files and locks after a kill at any line, and on full or read-only disks."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import torch

from saarthi_lib import storage
from saarthi_lib.errors import ArtifactError, StorageError
from saarthi_lib.storage import (
    alone,
    digest_files,
    remove_leftovers,
    verify_files,
    whole_file,
    whole_folder,
    write_json,
)
from tests.faults.processes import fork, in_child, killed_at, mounted, remount

# Kill at each of these lines: a few by default, every one with the slow tests.
EVERY = [4, pytest.param(1, marks=pytest.mark.slow)]
OLD, NEW = {"a.txt": "old", "b/c.txt": "old"}, {"a.txt": "new", "b/c.txt": "new" * 1000}


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, if there is one: tests kill processes, not the machine."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def write(content: dict[str, str], folder: Path) -> None:
    for name, text in content.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def read(folder: Path) -> dict[str, str] | None:
    if not folder.exists():
        return None
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def put(content: dict[str, str], target: Path) -> None:
    with whole_folder(target) as aside:
        write(content, aside)


def no_exchange(one: Path, other: Path) -> bool:
    return False


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("before", [None, OLD])
def test_folder_is_whole_after_its_writer_is_killed(
    quick: Path, before: dict[str, str] | None, every: int
) -> None:
    point, found = 0, set()
    while True:
        target = quick / str(point) / "folder"
        if before:
            put(before, target)
        if not killed_at(point, storage.__file__, lambda: put(NEW, target)):  # noqa: B023
            break
        content = read(target)
        assert content in (before, NEW), f"killed at line {point}"
        found.add(json.dumps(content))
        put(OLD, target)  # the next write succeeds and leaves nothing else
        assert read(target) == OLD and list(target.parent.iterdir()) == [target]
        point += every
    assert len(found) == 2 and point > 60, point  # before and after


@pytest.mark.slow
def test_folder_is_whole_or_absent_without_renameat2(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_exchanged", no_exchange)
    point, found = 0, []
    while True:
        target = quick / str(point) / "folder"
        put(OLD, target)
        if not killed_at(point, storage.__file__, lambda: put(NEW, target)):  # noqa: B023
            break
        found.append(read(target))
        assert found[-1] in (OLD, NEW, None)
        put(OLD, target)
        assert list(target.parent.iterdir()) == [target]
        point += 1
    assert found[0] == OLD and found[-1] == NEW and None in found


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("existed", [True, False])
def test_file_is_whole_after_its_writer_is_killed(quick: Path, existed: bool, every: int) -> None:
    point, old = 0, {"content": "old"}
    while True:
        target = quick / str(point) / "file.json"
        if existed:
            write_json(target, old)
        new = {"content": "new" * 10_000}
        if not killed_at(point, storage.__file__, lambda: write_json(target, new)):  # noqa: B023
            break
        content = json.loads(target.read_text()) if target.exists() else None
        assert content in (new, old if existed else None), f"killed at line {point}"
        write_json(target, old)
        assert json.loads(target.read_text()) == old and list(target.parent.iterdir()) == [target]
        point += every
    assert point > 40, point


def test_replaced_folder_is_never_absent(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    put(OLD, target)
    with whole_folder(tmp_path / "one") as one:
        write(OLD, one)
    if not storage._exchanged(tmp_path / "one", target):
        pytest.skip("this file system cannot exchange two folders")

    def replace() -> None:
        for _ in range(50):
            put(NEW, target)

    writer, looked = fork(replace), 0
    while os.waitpid(writer, os.WNOHANG) == (0, 0):
        os.stat(target / "a.txt")
        looked += 1
    assert looked > 50


def test_partial_folder_of_a_living_writer_stays(tmp_path: Path) -> None:
    target, started = tmp_path / "folder", tmp_path / "started"

    def write_slowly() -> None:
        with whole_folder(target) as aside:
            write(NEW, aside)
            started.touch()
            while started.exists():
                time.sleep(0.01)

    writer = fork(write_slowly)
    while not started.exists():
        time.sleep(0.01)
    put(OLD, target)
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.glob(".folder.*.partial"))) == 1
    started.unlink()
    assert os.waitpid(writer, 0)[1] == 0
    assert read(target) == NEW and list(tmp_path.iterdir()) == [target]


# --- locks ----------------------------------------------------------------------------------------


def hold(lock: Path, ready: Path) -> Callable[[], None]:
    def work() -> None:
        with alone(lock):
            ready.touch()
            while ready.exists():
                time.sleep(0.01)

    return work


def started(work: Callable[[], None], ready: Path) -> int:
    child = fork(work)
    while not ready.exists():
        time.sleep(0.01)
    return child


def test_second_process_is_refused_with_the_owners_id(tmp_path: Path) -> None:
    lock, ready = tmp_path / ".lock", tmp_path / "ready"
    first = started(hold(lock, ready), ready)
    with pytest.raises(StorageError) as raised, alone(lock, wait=False):
        raise AssertionError("two at once")
    told = str(raised.value)
    assert f"{tmp_path}: process {first} on {os.uname().nodename}, since 20" in told
    assert "wait until it ends, or choose another folder" in told
    ready.unlink()
    os.waitpid(first, 0)
    with alone(lock, wait=False):
        assert lock.exists()
    assert not lock.exists()


def test_lock_of_a_killed_owner_is_taken_over_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock, ready = tmp_path / ".lock", tmp_path / "ready"
    first = started(hold(lock, ready), ready)
    os.utime(lock, (2**32, 2**32))  # the year 2106
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert lock.exists()
    storage.logger.parent.propagate = True  # type: ignore[union-attr]
    with caplog.at_level("INFO", logger="saarthi"), alone(lock, wait=False):
        assert json.loads(lock.read_text())["process"] == os.getpid()
    assert f"taken over from process {first} on" in caplog.text and not lock.exists()


def test_one_process_at_a_time_holds_the_lock(quick: Path) -> None:
    count = quick / "count"
    count.write_text("0")

    def add() -> None:
        for _ in range(20):
            with alone(quick / ".lock"):
                count.write_text(str(int(count.read_text()) + 1))

    children = [fork(add) for _ in range(8)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert count.read_text() == "160"


@pytest.mark.parametrize("every", EVERY)
def test_lock_is_free_after_its_owner_is_killed(quick: Path, every: int) -> None:
    def work() -> None:
        with alone(quick / ".lock", wait=False):
            pass

    point = 0
    while killed_at(point, storage.__file__, work):
        work()
        assert list(quick.iterdir()) == []
        point += every
    assert point > 15, point


# --- full and read-only disks ---------------------------------------------------------------------


def test_full_disk_is_reported_and_keeps_the_old_files(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=512k") as disk:
        put(OLD, disk / "folder")
        write_json(disk / "file.json", OLD)
        with pytest.raises(StorageError, match=r"folder: the disk is full .*free some space"):
            put({"a.txt": "x" * 2**20}, disk / "folder")
        with pytest.raises(StorageError, match=r"file\.json: the disk is full"):
            write_json(disk / "file.json", "x" * 2**20)
        assert read(disk / "folder") == OLD and json.loads((disk / "file.json").read_text()) == OLD
        assert len(list(disk.iterdir())) == 2
        remount(disk, "size=8m")
        put({"a.txt": "x" * 2**20}, disk / "folder")


def scripted(folder: Path) -> None:
    from saarthi_lib.export.torchscript import _write

    _write(torch.jit.script(torch.nn.Linear(512, 512)), folder / "model.pt")


def weights(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(512, 512)}, folder / "model.safetensors")


def arrays(folder: Path) -> None:
    np.savez(folder / "arrays.npz", values=np.zeros((1000, 1000)))


def table(folder: Path) -> None:
    pd.DataFrame({"text": np.random.default_rng(0).bytes(2**20)}, index=[0]).to_parquet(
        folder / "t"
    )


def signals(folder: Path) -> None:
    from saarthi_lib.distillation.signals import _create

    _create(folder / "hidden.npy", (1000, 1000))[:] = np.float16(1)


@pytest.mark.parametrize("writer", [scripted, weights, arrays, table, signals])
def test_full_disk_raises_an_error_and_no_signal(
    tmp_path: Path, writer: Callable[[Path], None]
) -> None:
    def attempt() -> None:
        with pytest.raises(StorageError, match="disk is full"), whole_folder(disk / "a") as aside:
            writer(aside)
        assert list(disk.iterdir()) == []

    with mounted(tmp_path / "disk", "size=512k") as disk:
        status = in_child(attempt)  # some writers would end it by a signal
    assert not os.WIFSIGNALED(status) and status == 0


def test_read_only_folder_is_reported_at_once(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        write_json(disk / "file.json", OLD)
        put(OLD, disk / "folder")
        remount(disk, "ro")
        for attempt in (
            lambda: write_json(disk / "file.json", NEW),
            lambda: put(NEW, disk / "folder"),
            lambda: alone(disk / ".lock", wait=False).__enter__(),
            lambda: put(NEW, disk / "new" / "folder"),
        ):
            with pytest.raises(StorageError, match=r"cannot be written here .*Read-only"):
                attempt()
        assert read(disk / "folder") == OLD  # reading still works


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# --- digests --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is not as it was written"),
        (lambda path: path.write_bytes(b""), "is not as it was written"),
        (
            lambda path: path.write_bytes(
                bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]
            ),
            "is not as it was written",
        ),
        (lambda path: path.unlink(), "cannot be read"),
    ],
)
def test_damaged_file_is_named(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    write(NEW, tmp_path)
    digests = digest_files(tmp_path)
    verify_files(tmp_path, digests)
    damage(tmp_path / "b" / "c.txt")
    with pytest.raises(ArtifactError, match=rf"b/c\.txt: {words}.*run the step that makes it"):
        verify_files(tmp_path, digests)


def test_read_only_file_can_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    target.chmod(0o400)
    with whole_file(target) as aside:
        aside.write_text("new")
    assert target.read_text() == "new"
