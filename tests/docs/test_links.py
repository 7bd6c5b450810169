"""Relative links in Markdown lead to files and headings, by the rules of the forge."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
TARGET = re.compile(r"\]\(([^()\s]+)\)|^\[[^\]]+\]: (\S+)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6} (.+?)(?: #+)?$", re.MULTILINE)


def pages() -> list[Path]:
    """Markdown files of the repository, without ignored ones."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in filter(None, done.stdout.split("\0"))]


@cache
def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as the forge names them."""
    found: list[str] = []
    seen: Counter[str] = Counter()
    for heading in HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return set(found)


def dead_links(page: Path) -> Iterator[str]:
    """Links of a page to missing files or headings."""
    text = CODE.sub("CODE", FENCE.sub("", page.read_text(encoding="utf-8")))
    for target in ("".join(groups) for groups in TARGET.findall(text)):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield target


def test_relative_links_and_anchors_exist() -> None:
    found = pages()
    assert len(found) > 20
    assert {
        str(page.relative_to(ROOT)): dead for page in found if (dead := [*dead_links(page)])
    } == {}


def test_dead_links_and_anchors_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "# A & `b_c`\n[1](#a--b_c) [2](#b) [3](page.md) [4](gone.md)\n```sh\n[5](no)\n```\n"
    page.write_text(text, encoding="utf-8")
    assert [*dead_links(page)] == ["#b", "gone.md"]
