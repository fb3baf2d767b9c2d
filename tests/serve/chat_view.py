"""Where the page shows a chat, and how one is had there."""

from tests.serve.chromium import Page

IDLE = "document.querySelector('#chat-log').getAttribute('aria-busy') === 'false'"
ANSWER = ".log article:last-of-type .tokens"
STATS = ".log article:last-of-type .stats"


def ask(page: Page, text: str) -> None:
    """Send a message and wait for the end of its answer."""
    n_before = page.run("document.querySelectorAll('.log article .stats').length")
    page.fill("#chat-text", text)
    page.press("Enter", 13, "\r")
    page.wait(f"{IDLE} && document.querySelectorAll('.log article .stats').length === {n_before + 1}")
