import os
from collections.abc import Callable
from pathlib import Path

import pytest

from saarthi_lib.storage import (
    digest_file,
    digest_folder,
    digest_json,
    folder_size,
    read_json,
    whole_file,
    whole_folder,
    write_json,
)
from tests.test_cli import saarthi


def test_new_folder_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with whole_folder(target) as aside:
        (aside / "inner").mkdir()
        (aside / "inner" / "a.txt").write_text("new")
        assert not target.exists()

    assert (target / "inner" / "a.txt").read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_folder_replaces_all_files_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with whole_folder(target) as aside:
        (aside / "new.txt").write_text("new")
        assert (target / "old.txt").read_text() == "old"

    assert [path.name for path in target.iterdir()] == ["new.txt"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failed_folder_keeps_the_old_one(
    tmp_path: Path, existed: bool, error: type[BaseException]
) -> None:
    target = tmp_path / "folder"
    if existed:
        target.mkdir()
        (target / "old.txt").write_text("old")
    with pytest.raises(error), whole_folder(target) as aside:
        (aside / "new.txt").write_text("half")
        raise error

    assert [path.name for path in tmp_path.rglob("*")] == (["folder", "old.txt"] if existed else [])


@pytest.mark.parametrize("existed", [True, False])
def test_new_file_is_complete(tmp_path: Path, existed: bool) -> None:
    target = tmp_path / "file.txt"
    if existed:
        target.write_text("old")
    with whole_file(target) as aside:
        aside.write_text("new")
        assert target.exists() == existed

    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("existed", [True, False])
def test_failed_file_keeps_the_old_one(tmp_path: Path, existed: bool) -> None:
    target = tmp_path / "file.txt"
    if existed:
        target.write_text("old")
    with pytest.raises(ValueError, match="stop"), whole_file(target) as aside:
        aside.write_text("half")
        raise ValueError("stop")

    assert [path.name for path in tmp_path.iterdir()] == (["file.txt"] if existed else [])
    assert not existed or target.read_text() == "old"


def test_json_is_read_as_written(tmp_path: Path) -> None:
    content = {"नाम": ["बत्ती", 1.5, None, True]}
    write_json(tmp_path / "a.json", content)

    assert read_json(tmp_path / "a.json") == content
    assert "बत्ती" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_unwritable_json_keeps_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})

    assert read_json(tmp_path / "a.json") == {"old": 1}


def make(folder: Path) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "inner" / "b.txt").write_text("two")
    return folder


def swap(folder: Path) -> None:
    (folder / "a.txt").write_text("two")
    (folder / "inner" / "b.txt").write_text("one")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.txt").write_text("One"),
        lambda folder: (folder / "a.txt").rename(folder / "c.txt"),
        lambda folder: (folder / "a.txt").rename(folder / "inner" / "a.txt"),
        lambda folder: (folder / "empty.txt").touch(),
        lambda folder: (folder / "a.txt").unlink(),
        swap,
    ],
)
def test_folder_digest_covers_names_and_contents(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    folder, same = make(tmp_path / "x"), make(tmp_path / "y")
    assert digest_folder(folder) == digest_folder(same)

    change(folder)
    assert digest_folder(folder) != digest_folder(same)


def test_file_digest_covers_its_content_only(tmp_path: Path) -> None:
    for name, content in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).write_text(content)

    assert digest_file(tmp_path / "a") == digest_file(tmp_path / "b")
    assert digest_file(tmp_path / "a") != digest_file(tmp_path / "c")
    # echo -n one | sha256sum
    assert digest_file(tmp_path / "a").startswith("7692c3ad3540bb803c020b3aee66cd88")


def test_json_digest_ignores_the_order_of_keys() -> None:
    assert digest_json({"a": 1, "b": [1, 2]}) == digest_json({"b": [1, 2], "a": 1})
    assert digest_json({"a": 1, "b": [1, 2]}) != digest_json({"a": 1, "b": [2, 1]})


def test_folder_size_counts_subfolders(tmp_path: Path) -> None:
    assert folder_size(make(tmp_path / "x")) == 6


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a pipe"])
def test_results_never_replace_folders_or_pipes(tmp_path: Path, kind: str) -> None:
    run, page = Path(__file__).parents[1] / "old_run", tmp_path / "page.html"
    if kind == "folder":
        page.mkdir()
    else:
        os.mkfifo(pipe := page if kind == "pipe" else tmp_path / "pipe")
        if pipe != page:
            page.symlink_to(pipe)
    done = saarthi("compare", str(run), str(run), "--html", str(page))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "page.html: is a folder, device or pipe; give the name of a file" in done.stderr
    assert page.exists() and not page.is_file()
    assert not list(tmp_path.glob(".*"))
