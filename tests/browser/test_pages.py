"""The pages of a real run in a real browser: accessible, and without external files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from saarthi_lib.reports.runs import compare_runs, read_runs, write_comparison_of_runs
from saarthi_lib.storage import read_json
from saarthi_lib.sweep.crossval import collect_crossval
from tests.browser.chromium import fits, opened, running_browser, serious_findings
from tests.saarthi_lib.sweep.test_crossval import answer_folds, planned_for, write_data

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    runs, folds = folder / "runs.html", folder / "folds"
    write_comparison_of_runs(runs, compare_runs(read_runs([finished_run, finished_run])))
    planned = planned_for(write_data(folder / "bot"), folds)
    answer_folds(planned, folds)
    collect_crossval(planned, folds)
    names = ("report.html", "explanations.html", "data/check.html")
    found = [*(finished_run / name for name in names), runs, folds / "crossval.html"]
    return {path.name: path.as_uri() for path in found}


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "dark"), ("phone", "light")])
@pytest.mark.parametrize(
    "name", ["report.html", "explanations.html", "check.html", "runs.html", "crossval.html"]
)
def test_it_is_accessible_and_fits(
    browser: Browser, pages: dict[str, str], name: str, size: str, scheme: str
) -> None:
    with opened(browser, pages[name], size, scheme) as page:
        assert page.inner_text("h1")
        for unfolded in (False, True):
            page.evaluate(
                "open => document.querySelectorAll('details').forEach(it => it.open = open)",
                unfolded,
            )
            assert fits(page)
            assert serious_findings(page) == []


def test_confusion_matrix_works_with_the_keyboard(
    browser: Browser, pages: dict[str, str], finished_run: Path
) -> None:
    details = read_json(finished_run / "work" / "evaluation" / "details.json")
    confusion = details["breakdown"]["confusion"]
    counts = [
        (count, gold, given)
        for gold, row in confusion["counts"].items()
        for given, count in row.items()
        if gold != given
    ]
    most = max(count for count, _, _ in counts)
    with opened(browser, pages["report.html"]) as page:
        status = page.inner_text("#explorer [role=status]")
        gold, _, rest = status.partition(", answered ")
        given, _, share = rest.partition(": ")
        assert (most, gold, given) in counts and share.startswith(f"{most} of ")
        page.focus("#explorer canvas")
        at = confusion["labels"].index(gold)
        page.keyboard.press("ArrowUp" if at else "ArrowDown")
        moved = confusion["labels"][at - 1 if at else 1]
        assert page.inner_text("#explorer [role=status]").startswith(f"{moved}, answered ")
        page.select_option("#gold-label", label=gold)
        rows = page.locator("#explorer tbody tr").all_inner_texts()
        shown = {
            row.split("\t")[0].removesuffix(" (right)"): int(row.split("\t")[1]) for row in rows
        }
        expected = confusion["counts"][gold]
        assert shown == {name: expected[name] for name in shown} and given in shown
