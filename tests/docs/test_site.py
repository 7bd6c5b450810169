"""The documentation builds without broken links, loads nothing, and describes what exists."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from predictors.settings import Settings
from saarthi_lib import cli
from saarthi_lib.config import TrainConfig

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    (page.relative_to(ROOT), language, body)
    for page in PAGES
    for language, body in re.findall(
        r"^```(\w+)[^\n]*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


class _Loads(HTMLParser):
    """URLs that a browser fetches to show a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag != "a":
            self.urls += [
                values[name] or "" for name in ("src", "href", "srcset") if name in values
            ]


def _commands(command: Any, name: str) -> Iterator[str]:
    yield name
    for inner_name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{name} {inner_name}")


def test_pages_load_nothing_from_other_servers(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    assert [
        f"{page.name}: {url}"
        for page in pages
        for url in _Loads(page.read_text(encoding="utf-8")).urls
        if url.startswith(("http:", "https:", "//"))
    ] == []


@pytest.mark.browser
def test_search_works_when_the_site_is_opened_from_a_folder(site: Path) -> None:
    from playwright.sync_api import expect

    from tests.browser.chromium import opened, running_browser

    with (
        running_browser() as browser,
        opened(browser, (site / "tutorial.html").as_uri()) as page,
    ):
        page.get_by_role("textbox", name="Search").press_sequentially("canary")
        page.locator("a.md-search-result__link", has_text="canary").first.click()
        expect(page.locator("article")).to_contain_text("canary")


@pytest.mark.browser
@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_flow_charts_fit_the_screen(site: Path, size: str, scheme: str, tmp_path: Path) -> None:
    from tests.browser.chromium import fits, opened, running_browser, screenshot

    with running_browser() as browser:
        for name in ("index", "pipelines"):
            with opened(browser, (site / f"{name}.html").as_uri(), size, scheme) as page:
                assert page.locator(".flowchart svg").first.is_visible()
                assert fits(page)
                screenshot(page, tmp_path, f"{name}-{size}")


def test_reference_has_every_field_setting_and_command(site: Path) -> None:
    configuration = (site / "reference" / "configuration.html").read_text(encoding="utf-8")
    assert [f for f in TrainConfig.model_fields if f"<td>{f}</td>" not in configuration] == []
    server = (site / "reference" / "server.html").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"<td>{name}</td>" not in server] == []
    text = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    known = [
        f"<code>{name}</code>" for name in _commands(typer.main.get_command(cli.app), "saarthi")
    ]
    assert len(known) > 10
    assert [name for name in known[1:] if name not in text] == []


def test_every_field_and_setting_has_a_description() -> None:
    for model in (TrainConfig, Settings):
        fields = model.model_fields.items()
        assert [name for name, field in fields if not field.description] == []


def test_every_documented_command_exists() -> None:
    wrong, seen = [], 0
    for page, language, body in BLOCKS:
        for line in body.replace("\\\n", " ").splitlines() if language == "sh" else ():
            if line.startswith("saarthi "):
                seen += 1
                wrong += [f"{page}: {line}: {problem}" for problem in _problems(line)]
    assert seen > 40
    assert wrong == []


def _problems(line: str) -> Iterator[str]:
    command: Any = typer.main.get_command(cli.app)
    words = iter(shlex.split(line.removesuffix("&"), comments=True)[1:])
    for word in words:
        name, _, value = word.partition("=")
        if name.startswith("-"):
            options = {each for parameter in command.params for each in parameter.opts}
            options |= {each for parameter in command.params for each in parameter.secondary_opts}
            if command.name == "serve":
                options = {f"--{field.replace('_', '-')}" for field in Settings.model_fields}
            if name not in options:
                yield f"unknown option {name}"
            if name == "--set":
                field = (value or next(words)).partition("=")[0]
                if field not in TrainConfig.model_fields:
                    yield f"unknown field {field}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                yield f"unknown command {word}"
                return
            command = command.commands[word]


def test_every_documented_configuration_is_valid() -> None:
    seen = 0
    for _, language, body in BLOCKS:
        if language == "yaml" and "apiVersion" not in body:  # not an object of a cluster
            TrainConfig.from_mapping(yaml.safe_load(body))
            seen += 1
    assert seen >= 4
