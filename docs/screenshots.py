"""Take the screenshots of the documentation: python docs/screenshots.py RUN [SENTENCE [BUNDLE …]]

RUN is the folder of a finished run. In the playground the bundles (NAME=BUNDLE) answer SENTENCE, or
an English and a Hindi one; by default the run's int8 model and its teacher, if it was delivered.
Use an idle machine, because the screenshots show latencies. Needs Chromium; writes docs/images/.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from playwright.sync_api import expect

from tests.browser.chromium import opened, running_browser
from tests.predictors.serving import serving

IMAGES = Path(__file__).parent / "images"
SENTENCES = ("turn up the volume in the kitchen", "बेडरूम की लाइट चालीस प्रतिशत कर दो")
LARGEST = 300_000  # bytes
WARM_UP, PAUSE = 5, 500  # questions before the picture, and milliseconds between them


def main(run: Path, bundles: list[str], sentences: tuple[str, str]) -> None:
    with running_browser() as browser:
        for name, file in (("report", "report.html"), ("check", "data/check.html")):
            with opened(browser, (run / file).resolve().as_uri()) as page:
                page.screenshot(path=IMAGES / f"{name}.png")
        with serving(*bundles, playground=True) as server:
            for size, scheme, name, sentence in (
                ("desktop", "light", "playground", sentences[0]),
                ("phone", "dark", "playground-phone", sentences[1]),
            ):
                with opened(browser, f"{server.url}/playground", size, scheme) as page:
                    if len(bundles) > 1:
                        page.get_by_label("Compare with").select_option(index=2)
                    page.get_by_label("Text, in any script").fill(sentence)
                    for _ in range(WARM_UP):
                        page.keyboard.press("Enter")
                        expect(page.locator("article .word").last).to_be_visible()
                        page.wait_for_timeout(PAUSE)
                    expect(page.locator("article .why p.text")).to_have_count(len(bundles))
                    page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
    for image in IMAGES.glob("*.png"):
        assert image.stat().st_size < LARGEST, f"{image} is too large for a page"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = [f"int8={folder / 'bundle-int8'}"]
    if (folder / "teacher-bundle").is_dir():  # with torchscript: true
        found.append(f"teacher={folder / 'teacher-bundle'}")
    asked = (sys.argv[2],) * 2 if len(sys.argv) > 2 else SENTENCES
    main(folder, sys.argv[3:] or found, asked)
