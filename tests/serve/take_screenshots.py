"""The pictures of docs/chapters/playground.md: `python -m tests.serve.take_screenshots ADDRESS`.

Needs a running `rawgpt serve --model smollm2-135m --model finetune --model quantize` and Pillow, which
makes the pictures small.
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from tests.serve.chromium import Page, chromium

IMAGES = Path(__file__).parents[2] / "docs/images"
QUESTION = "What is the capital of France, and what is it known for?"
COLORS = 96
IDLE = "document.querySelector('#chat-log').getAttribute('aria-busy') === 'false'"


def take(address: str) -> None:
    """Ask, compare and look at heads; save a picture of each."""
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as browser:
        with browser.page(address, width=1100, height=620) as page:
            page.wait("document.body.dataset.ready")
            set_dials(page, temperature="0.6", max_tokens="90", seed="4")
            page.fill("#chat-text", QUESTION)
            page.press("Enter", 13, "\r")
            page.wait(f"{IDLE} && document.querySelector('.log .stats')")
            page.point(".log .token:nth-child(9)")
            save(page, "playground.png")
            page.point("h1")
            page.click("#tab-compare")
            page.fill("#compare-text", QUESTION)
            page.click("#compare-run")
            page.wait("document.querySelector('#compare-run').textContent === 'Run'")
            save(page, "playground_compare.png")
        with browser.page(f"{address}#attention", width=1100, height=620, scheme="dark") as page:
            page.wait("document.body.dataset.ready")
            page.click("#attention [type=submit]")
            page.wait("document.querySelector('.layer')")
            page.click(".layer:nth-child(3) button:nth-of-type(2)")
            save(page, "playground_attention.png")


def set_dials(page: Page, **dials: str) -> None:
    """Type into the dials."""
    for name, value in dials.items():
        page.fill(f"#{name}", value)


def save(page: Page, name: str) -> None:
    """Save what is seen with a palette."""
    page.screenshot(IMAGES / name)
    with Image.open(IMAGES / name) as image:
        small = image.convert("RGB").quantize(COLORS)
    small.save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="such as http://127.0.0.1:8000/")
    take(parser.parse_args().address)
