"""A real, headless Chromium that may reach nothing but the pages under test."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000  # milliseconds: on a busy machine a page is slow, not wrong
SIZES = {"desktop": (1100, 800), "phone": (390, 844)}


def find_chromium() -> str:
    """The browser's path; skips the test where there is none."""
    named = os.environ.get("CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium on the path ({', '.join(NAMES)}), nor in CHROMIUM: install one")
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    executable = find_chromium()
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser,
    url: str,
    size: str = "desktop",
    scheme: Any = "light",
    expected: str | None = None,
    **options: Any,
) -> Iterator[Page]:
    """A page in a window of its own; what it complains of, or loads from elsewhere, fails.

    Complaints that hold `expected` do not.
    """
    width, height = SIZES[size]
    viewport: Any = {"width": width, "height": height}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, **options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    problems: list[str] = []
    own = url.partition("://")[2].partition("/")[0]

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(f"{message.type}: {message.text}")

    def requested(request: Request) -> None:
        if not request.url.startswith(("data:", "blob:", f"http://{own}/", f"file://{own}/")):
            problems.append(f"asks elsewhere: {request.url}")

    page.on("console", heard)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", requested)
    page.goto(url)
    try:
        yield page
        unexpected = [each for each in problems if expected is None or expected not in each]
        assert unexpected == [], f"{url}: {unexpected}"
    finally:
        context.close()


def serious_findings(page: Page) -> list[str]:
    """What axe-core finds that keeps people out."""
    results = Axe().run(page).response
    assert results["passes"], "axe has looked at nothing"
    return [
        f"{found['id']} ({found['impact']}): {found['help']}: {node['html'][:200]}"
        for found in results["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    wide: bool = page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    return wide


def screenshot(page: Page, folder: Path, name: str) -> Path:
    path = folder / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 5_000
    return path
