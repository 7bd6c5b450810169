"""Adapt pages that are also read on the forge to the site: links and drawings. MkDocs calls it."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.flowchart import draw

ROOT = Path(__file__).parent.parent
# Files outside docs/ that are pages of the site, below `repository/`.
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "manifests/README.md")
PREFIX = "repository/"

MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A fenced block, a link (its text and its target), or code in a line.
LINK = re.compile(
    r"^ *```.*?^ *```$|\[([^\[\]]*)\]\(([^()\s]+)\)|`[^`\n]+`", re.MULTILINE | re.DOTALL
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/."""
    for path in OUTSIDE:
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, PREFIX + path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Draw flow charts, and point relative links at pages of the site."""
    site = page.file.src_uri
    return LINK.sub(
        lambda link: relinked(link, site), MERMAID.sub(lambda chart: draw(chart[1]), markdown)
    )


def relinked(link: re.Match[str], site: str) -> str:
    """Link to the page of a file; the text alone, if the site does not have the file."""
    text, (path, hash_sign, anchor) = link[1], (link[2] or "").partition("#")
    if not path or ":" in path:
        return link[0]
    source = site.removeprefix(PREFIX) if site.startswith(PREFIX) else f"docs/{site}"
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if target.startswith("docs/"):
        target = target.removeprefix("docs/")
    elif target in OUTSIDE:
        target = PREFIX + target
    else:
        return text
    found = posixpath.relpath(target, posixpath.dirname(site) or ".")
    return f"[{text}]({found}{hash_sign}{anchor})"
