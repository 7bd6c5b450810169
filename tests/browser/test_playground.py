"""The playground in a browser, by mouse, keyboard and screen reader."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.chromium import fits, opened, running_browser, screenshot, serious_findings
from tests.predictors.serving import Server, serving
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

pytestmark = pytest.mark.browser

ENGLISH, HINDI = SENTENCES[0], SENTENCES[7]
TOKEN = "open sesame"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("playground")
    joint = write_tiny_bundle(root / "a", "joint", name="joint", runtime="onnxruntime")
    unsure = write_tiny_bundle(root / "b", name="unsure", runtime="onnxruntime", threshold=0.999)
    tagger = write_tiny_bundle(root / "c", "pos", name="tagger")
    with serving(joint, unsure, tagger, playground=True) as running:
        yield running


def _ask(page: Page, text: str, model: str, other: str = "") -> None:
    page.get_by_label("Model", exact=True).select_option(model)
    page.get_by_label("Compare with").select_option(other)
    page.get_by_label("Text, in any script").fill(text)
    page.get_by_role("button", name="Answer").click()


@pytest.mark.parametrize("text", [ENGLISH, HINDI, f"😀 {ENGLISH}"])
def test_page_shows_the_answers_of_both_models(browser: Browser, served: Server, text: str) -> None:
    [joint] = served.expected("joint", [text], top_k=4)
    [unsure] = served.expected("unsure", [text], top_k=4)
    with opened(browser, f"{served.url}/playground") as page:
        _ask(page, text, "joint", "unsure")

        first, second = (
            page.locator(f"article[data-model={name}]") for name in ("joint", "unsure")
        )
        expect(first.locator(".label")).to_have_text(joint["label"])
        expect(first.locator("tbody").first.locator("th")).to_have_text(
            [choice["label"] for choice in joint["top_k"]]
        )
        expect(first.locator(".number").first).to_have_text(f"{100 * joint['probability']:.1f}%")
        found = [f"{entity['text']}{entity['label']}" for entity in joint["entities"]]
        expect(first.locator("mark")).to_have_text(found)
        expect(first.locator("header .quiet").first).to_contain_text("ms with the network")
        assert unsure["reason"] == "low_probability"
        expect(second.locator(".abstention")).to_have_text("Abstains: low probability")
        expect(second.locator(".label")).to_have_text(unsure["label"])
        # Screen readers get the answer, and the words are explained.
        expect(page.get_by_role("status")).to_contain_text(f"joint: {joint['label']}")
        words = served.predictors["joint"].words(text)
        expect(first.locator(".word")).to_have_text([text[a:b] for a, b in words])
        expect(second.locator(".word")).to_have_count(len(words))


def test_chosen_entity_is_explained(browser: Browser, served: Server) -> None:
    text = next(t for t in SENTENCES if served.expected("joint", [t])[0]["entities"])
    [entity, *_] = served.expected("joint", [text])[0]["entities"]
    with opened(browser, f"{served.url}/playground") as page:
        _ask(page, text, "joint")
        page.get_by_label("Why", exact=True).select_option(f"{entity['text']}: {entity['label']}")
        page.get_by_text("As numbers").click()
        expect(page.locator(".why details p")).to_contain_text(f"“{entity['label']}”")
        _ask(page, text, "tagger")
        tokens = served.expected("tagger", [text])[0]["tokens"]
        expect(page.locator("mark")).to_have_count(len(tokens))
        expect(page.locator(".word")).to_have_count(len(tokens))


def test_slider_changes_the_threshold(browser: Browser, served: Server) -> None:
    with opened(browser, f"{served.url}/playground") as page:
        shown, article = page.locator("#lowest"), page.locator("article")
        _ask(page, ENGLISH, "unsure")
        expect(shown).to_have_text("99.9% (the model's)")
        expect(article).to_contain_text("threshold 99.9%")
        expect(article.locator(".abstention")).to_be_visible()

        page.get_by_label("Threshold").press("Home")
        expect(shown).to_have_text("0.0%")
        expect(article).to_contain_text("threshold 0.0%")
        expect(article.locator(".abstention")).to_have_count(0)
        expect(article.locator(".word").first).to_be_visible()

        page.get_by_role("button", name="Reset").click()
        expect(article.locator(".abstention")).to_be_visible()
        expect(page.get_by_role("button", name="Reset")).to_be_hidden()
        page.get_by_label("Model", exact=True).select_option("tagger")
        expect(shown).to_have_text("none (the model's)")


def test_page_works_by_keyboard(browser: Browser, served: Server) -> None:
    with opened(browser, f"{served.url}/playground") as page:
        expect(page.locator("#model option")).to_have_count(3)
        page.keyboard.type("turn on the lights")  # the text field has the focus
        page.keyboard.press("Enter")
        expect(page.locator("article .word").first).to_be_visible()
        order = []
        for _ in range(6):
            page.keyboard.press("Tab")
            order.append(
                page.evaluate("document.activeElement.id || document.activeElement.tagName")
            )
        assert order == ["model", "other", "threshold", "BUTTON", "why-joint", "SUMMARY"]
        page.keyboard.press("Enter")
        expect(page.locator(".why details table")).to_be_visible()


def test_mistakes_and_markup_are_shown_as_text(browser: Browser, served: Server) -> None:
    with opened(browser, f"{served.url}/playground") as page:
        page.get_by_role("button", name="Answer").click()
        expect(page.get_by_role("alert")).to_have_text("Type or paste a text first.")
        _ask(page, "<img src=x onerror=alert(1)> <b>lights</b>", "joint")
        expect(page.locator(".text").first).to_contain_text("<b>lights</b>")
        expect(page.get_by_role("alert")).to_be_hidden()


def test_error_of_the_server_is_shown(browser: Browser, served: Server) -> None:
    # The browser logs the status in its console.
    with opened(browser, f"{served.url}/playground", expected="413") as page:
        _ask(page, "a" * 10_001, "joint")
        expect(page.get_by_role("alert")).to_contain_text("has 10001 characters")
        expect(page.locator("article")).to_have_count(0)


def test_browser_asks_for_the_token(browser: Browser, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "a", name="guarded", runtime="onnxruntime")
    environment = {"SAARTHI_PLAYGROUND_TOKEN": TOKEN}
    with serving(bundle, playground=True, environment=environment) as guarded:
        given = {"username": "me", "password": TOKEN}
        with opened(browser, f"{guarded.url}/playground", http_credentials=given) as page:
            page.get_by_label("Text, in any script").fill(ENGLISH)
            page.keyboard.press("Enter")
            expect(page.locator(".word")).not_to_have_count(0)


def test_text_before_the_list_of_models_is_answered(browser: Browser, served: Server) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    with opened(browser, f"{served.url}/playground") as page:
        page.route(f"{served.url}/metadata", hold)
        page.reload()
        page.get_by_label("Text, in any script").fill(ENGLISH)
        page.keyboard.press("Enter")
        expect(page.locator("#answers")).to_have_attribute("aria-busy", "true")
        held.pop().continue_()
        expect(page.locator(".word")).not_to_have_count(0)


def test_missing_list_of_models_is_reported(browser: Browser, served: Server) -> None:
    def refuse(route: Route) -> None:
        route.fulfill(status=503, body="busy")

    with opened(browser, f"{served.url}/playground", expected="503") as page:
        page.route(f"{served.url}/metadata", refuse)
        page.reload()
        expect(page.get_by_role("alert")).to_contain_text("The list of models is not available")
        page.get_by_label("Text, in any script").fill(ENGLISH)
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("No answer")


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_page_is_accessible_and_fits_the_screen(
    browser: Browser, served: Server, tmp_path: Path, size: str, scheme: str
) -> None:
    with opened(browser, f"{served.url}/playground", size, scheme) as page:
        assert serious_findings(page) == []
        _ask(page, HINDI, "joint", "unsure")
        expect(page.locator(".word").first).to_be_visible()
        for summary in page.get_by_text("As numbers").all():
            summary.click()
        assert serious_findings(page) == []
        assert fits(page)
        screenshot(page, tmp_path, f"playground-{size}-{scheme}")
