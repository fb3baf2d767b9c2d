"""gpt/serve/page: readable on a phone in either light, still while it streams, usable without a mouse."""

from typing import Any

import pytest

from tests.serve.chat_view import ask
from tests.serve.chromium import Browser, Page
from tests.serve.scripted import Script


def contrast(page: Page, above: str, below: str) -> float:
    """Return the contrast of two colours of the page (WCAG 2.2, relative luminance)."""

    def luminance(color: str) -> float:
        draw = "((c) => { c.fillStyle = getComputedStyle(document.body).getPropertyValue('{}'); c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data] })(document.createElement('canvas').getContext('2d'))"  # noqa: E501
        parts = page.run(draw.replace("{}", color))[:3]
        linear = [
            x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in (p / 255 for p in parts)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(above), luminance(below)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_in_either_light(browser: Browser, url: str, script: Script, scheme: str) -> None:
    """Guards: text too pale to read, a page wider than the screen, text that jumps while it streams."""
    script.say(*[f" word{i}" for i in range(60)])
    script.pause_s = 0.02
    with browser.page(f"{url}/", width=390, height=800, scheme=scheme) as page:
        page.wait("document.body.dataset.ready")
        for pair in (
            "ink paper",
            "soft paper",
            "accent paper",
            "on-accent accent",
            "wrong paper",
            "soft raised",
        ):
            above, below = pair.split()
            assert contrast(page, f"--{above}", f"--{below}") >= 4.5, pair
        page.run(
            "window.shift = 0, new PerformanceObserver((list) => list.getEntries().forEach((e) => "
            "{ if (!e.hadRecentInput) window.shift += e.value })).observe({type: 'layout-shift'})"
        )
        ask(page, "hi")
        assert page.run("window.shift") == 0
        page.click("#tab-compare")
        page.click("#compare-run")
        page.wait("document.querySelector('#compare-run').textContent === 'Run'")
        page.click("#tab-attention")
        page.click("#attention [type=submit]")
        page.wait("!document.querySelector('#head-large').hidden")
        for view in ("chat", "compare", "attention"):
            page.click(f"#tab-{view}")
            widths: Any = page.run(
                f"[document.documentElement.scrollWidth, document.querySelector('#{view}').scrollWidth]"
            )
            assert max(widths) <= 390, view
        assert page.complaints == []


def test_every_control_has_a_name_and_tabs_take_arrows(page: Page) -> None:
    """Guards: a control that a screen reader calls `button`; views that need a mouse."""
    nameless = page.run(
        "[...document.querySelectorAll('input, select, textarea, button')].filter((c) => "
        "!(c.innerText?.trim() && c.tagName === 'BUTTON') && !c.ariaLabel && ![...(c.labels ?? [])].some("
        "(l) => l.textContent.trim())).map((c) => c.outerHTML)"
    )
    assert nameless == []
    page.run("document.querySelector('#tab-chat').focus()")
    page.press("ArrowLeft")
    assert page.run("document.querySelector('[aria-selected=true]').id") == "tab-attention"
    assert page.run(
        "[...document.querySelectorAll('section')].filter((s) => !s.hidden).map((s) => s.id)"
    ) == ["attention"]
