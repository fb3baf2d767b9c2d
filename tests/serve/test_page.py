"""gpt/serve/page: what a reader sees and can do, in a headless Chromium."""

import math
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from gpt.catalog.open_model import OpenModel
from tests.serve.chat_view import ANSWER, IDLE, STATS, ask
from tests.serve.chromium import Browser, Page, chromium
from tests.serve.scripted import Script, escaped, served

MARKUP = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def test_a_real_model_s_answer(browser: Browser, client: TestClient) -> None:
    """Guards: a page that shows other text than the API gives, drops a dial, or loads from elsewhere."""
    dials = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.01, "repetition_penalty": 1.2}
    dials |= {"max_tokens": 12, "seed": 5}
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
    with served(client.app) as url, browser.page(f"{url}/") as page:
        page.wait("document.body.dataset.ready")
        assert page.text("#served") == "1 model served"
        for name, value in dials.items():
            page.fill(f"#{name}", str(value))
        page.fill("#system", "Be kind.")
        ask(page, "hi")
        answer = client.post("/v1/chat/completions", json={"messages": messages, **dials}).json()
        expected = answer["choices"][0]["message"]["content"]
        assert page.run(f"document.querySelector('{ANSWER}').textContent") == expected
        assert page.text(STATS).startswith(f"{answer['usage']['completion_tokens']} tokens · first after ")
        assert page.complaints == []
        assert {address[: len(url)] for address in page.requested} == {url}


def test_markup_is_text(page: Page, script: Script) -> None:
    """Guards: a model that writes into the page: its answer, its alternatives, its error, its heads."""
    script.say("a", MARKUP)
    script.broken = {"message": MARKUP, "code": None}
    ask(page, MARKUP)
    assert page.text(".log .said") == MARKUP
    assert page.text(ANSWER) == f"a{MARKUP}"
    assert page.text(".log .error") == MARKUP
    page.point(f"{ANSWER} .token:nth-child(2)")
    assert "<script>" in page.text("#inspector")
    page.click("#tab-compare")
    page.fill("#compare-text", MARKUP)
    page.click("#compare-run")
    page.wait("document.querySelectorAll('.columns .error:not([hidden])').length === 2")
    page.click("#tab-attention")
    page.fill("#attention-text", MARKUP[:40])
    page.click("#attention [type=submit]")
    page.wait("!document.querySelector('#head-large').hidden")
    assert page.run("window.hacked") is None
    assert page.run("document.querySelectorAll('main img, main script, #inspector img').length") == 0


def test_a_token_tells_its_probability(page: Page, script: Script) -> None:
    """Guards: probabilities of another token, a mouse that is needed, a character cut in two."""
    hindi = "ह".encode()
    script.tokens = [
        (b"sum", 0.25, [("win", 0.5), ("sum", 0.25)]),
        (hindi[:2], 0.5, [(escaped(hindi[:2]), 0.5)]),
        (hindi[2:], 0.5, [(escaped(hindi[2:]), 0.5)]),
        (b"!", 1.0, [("!", 1.0)]),
    ]
    for mode in ("chat", "complete"):
        page.click(f"input[value={mode}]")
        ask(page, "hi")
        assert page.text(ANSWER) == "sumह!"
        page.run("document.activeElement.blur()")
        page.point(f"{ANSWER} .token")
        assert page.text("#inspector").split() == ["sum", "25%", "win", "50%", "sum", "25%"]
        assert page.text("#inspector .chosen").split() == ["sum", "25%"]
        page.run(f"document.querySelector('{ANSWER} .token').focus()")
        page.press("ArrowRight")
        assert page.run("document.activeElement.textContent") == "ह"
        assert page.run("document.querySelectorAll('#inspector > div').length") == 2
        page.press("End")
        assert page.text("#inspector").split()[:2] == ["!", "100%"]
        page.press("Escape")
        assert page.run("document.querySelector('#inspector').hidden")
        shades = [f"{abs(math.log2(p)) / 9:.3f}" for p in (0.25, 0.25, 1.0)]  # the second: two halves of 1/2
        spans = f"[...document.querySelectorAll('{ANSWER} .token')]"
        assert page.run(f"{spans}.map((s) => s.style.getPropertyValue('--surprise'))") == shades
        assert page.run(f"document.querySelectorAll('{ANSWER} [tabindex=\"0\"]').length") == 1


def test_stop_aborts_the_request(page: Page, script: Script) -> None:
    """Guards: a Stop that only looks away while the server goes on; a half answer that is forgotten."""
    script.say("half")
    script.hangs = True
    page.fill("#chat-text", "hi")
    page.press("Enter", 13, "\r")
    page.wait(f"document.querySelector('{ANSWER}').textContent === 'half'")
    assert page.text("#chat-send") == "Stop"
    page.press("Escape")
    assert script.left.wait(30)
    page.wait(f"{IDLE} && document.querySelector('{STATS}').textContent.endsWith('stopped')")
    script.hangs = False
    ask(page, "and")
    assert script.asked[1][0]["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "half"},
        {"role": "user", "content": "and"},
    ]
    page.click("#chat-clear")
    ask(page, "anew")
    assert len(script.asked[2][0]["messages"]) == 1
    page.click("#chat-retry")
    page.wait(f"{IDLE} && document.querySelectorAll('.log article .stats').length === 1")
    assert script.asked[3][0]["messages"] == script.asked[2][0]["messages"]


def test_clear_while_an_answer_streams(page: Page, script: Script) -> None:
    """Guards: a cleared question that the next request sends, because its aborted answer came after."""
    script.say("half")
    script.hangs = True
    page.fill("#chat-text", "secret")
    page.press("Enter", 13, "\r")
    page.wait(f"document.querySelector('{ANSWER}').textContent === 'half'")
    page.click("#chat-clear")
    assert script.left.wait(30)
    page.wait(IDLE)
    assert page.run("document.querySelector('#chat-retry').disabled")
    script.hangs = False
    ask(page, "anew")
    assert script.asked[1][0]["messages"] == [{"role": "user", "content": "anew"}]


def test_errors_are_words(browser: Browser, url: str, script: Script) -> None:
    """Guards: a silence, `[object Object]` or a half answer that looks whole."""
    script.say("half")
    with browser.page(f"{url}/") as page:
        page.wait("document.body.dataset.ready")

        def error_of(text: str) -> str:
            ask(page, text)
            return page.text(".log article:last-of-type .error")

        script.refusals = [(429, {"message": "8 wait already"}, {"Retry-After": "3"})]
        assert error_of("a") == "8 wait already (in 3 s)"
        script.refusals = [(401, {"message": "this server needs a key"}, {})]
        assert error_of("a") == "this server needs a key. Give the API key among the dials."
        script.is_cut = True
        assert error_of("a") == "The server ended the answer in the middle."
        script.is_cut = False
        script.broken = {"message": "a fault of rawgpt", "code": "internal_error"}
        assert error_of("a") == "a fault of rawgpt"
        page.fill("#temperature", "-1")
        page.fill("#chat-text", "kept")
        page.press("Enter", 13, "\r")
        assert page.text(".log article:last-of-type .error").startswith("temperature: ")
        assert page.run("document.querySelector('#chat-text').value") == "kept"
        page.fill("#temperature", "1")
        offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.send("Network.emulateNetworkConditions", offline=True, **offline)
        assert error_of("a") == "The server cannot be reached. Is it still running?"


def test_an_outgrown_context_is_said_and_the_oldest_turns_stay_home(page: Page, script: Script) -> None:
    """Guards: a chat that is dead from its tenth turn on."""
    script.say("yes")
    for question in ("1", "2", "3"):
        ask(page, question)
    refusal = (400, {"message": "too long", "code": "context_length_exceeded"}, {})
    script.refusals = [refusal]
    ask(page, "4")
    assert page.text(ANSWER) == "yes"
    assert page.text(".log article:last-of-type .note").endswith("its 2 oldest turns are no longer sent.")
    sent = [[m["content"] for m in body["messages"]] for body, _ in script.asked[-2:]]
    assert sent == [["1", "yes", "2", "yes", "3", "yes", "4"], ["3", "yes", "4"]]
    ask(page, "5")
    assert [m["content"] for m in script.asked[-1][0]["messages"]] == ["3", "yes", "4", "yes", "5"]


def test_a_base_model_continues_text(browser: Browser, url: str, script: Script) -> None:
    """Guards: a chat template sent to a model that never saw one."""
    script.say(" time")
    with browser.page(f"{url}/") as page:
        page.wait("document.body.dataset.ready")
        page.run("import('/page/models.js').then((m) => { m.models.get('base').can_chat = false })")
        page.choose("#model", "base")
        assert page.run("document.querySelector('input[name=mode]:checked').value") == "complete"
        ask(page, "Once upon a")
        assert page.text(".log .answer") == "Once upon a time"
        body = script.asked[0][0]
        assert (body["model"], body["prompt"], body["stream"]) == ("base", "Once upon a", True)
        page.choose("#model", "tuned")
        assert page.run("document.querySelector('input[name=mode]:checked').value") == "chat"


def test_models_answer_side_by_side_at_once(page: Page, script: Script) -> None:
    """Guards: columns that come one after the other, or under another model's name."""
    script.say("yes")
    script.together = 2
    page.click("#tab-compare")
    assert page.run("document.querySelectorAll('.columns article').length") == 2
    page.fill("#compare-text", "hi")
    page.click("#compare-run")
    page.wait("document.querySelector('#compare-run').textContent === 'Run'")
    assert (
        page.run("[...document.querySelectorAll('.columns .answer')].map((a) => a.textContent)")
        == ["yes"] * 2
    )
    assert sorted(body["model"] for body, _ in script.asked) == ["base", "tuned"]
    script.hangs = True
    page.choose(".columns article:nth-child(2) select", "")
    page.click("#compare-run")
    page.wait("document.querySelector('.columns .answer').textContent === 'yes'")
    page.click("#compare-run")
    assert script.left.wait(30)
    assert len(script.asked) == 3


def test_heads_are_drawn_and_read_by_keyboard(page: Page, opened: OpenModel) -> None:
    """Guards: an empty canvas, another head's picture, a picture that only a mouse can read."""
    page.click("#tab-attention")
    page.fill("#attention-text", "Shall I compare")
    page.click("#attention [type=submit]")
    page.wait("!document.querySelector('#head-large').hidden")
    config = opened.model.config
    assert page.run("document.querySelectorAll('.layer').length") == config.n_layers
    assert page.run("document.querySelectorAll('.layer button').length") == config.n_layers * config.n_heads
    # the first token sees itself alone: its cell has the accent, whole; the corner above the diagonal nothing
    pixels = (
        "((c) => [...c.getContext('2d').getImageData({0}, {1}, 1, 1).data])(document.querySelector('{2}'))"
    )
    n_tokens = page.run("document.querySelectorAll('.looked').length")
    assert page.run(pixels.format(0, 0, ".layer canvas")) == [11, 92, 138, 255]
    assert page.run(pixels.format(n_tokens - 1, 0, ".layer canvas"))[3] == 0
    page.run("document.querySelector('.layer button').focus()")
    page.press("ArrowRight")
    assert page.text("#head-name") == "layer 0, head 1"
    page.press("ArrowDown")
    assert page.text("#head-name") == "layer 1, head 1"
    page.run("document.querySelector('#head-canvas').focus()")
    for _ in range(n_tokens):
        page.press("ArrowUp")
    page.press("ArrowLeft")
    first = page.text(".looked")
    assert page.text("#head-readout") == f"{first} looks at {first} 100%"
    page.choose("#attention-layer", "1")
    page.click("#attention [type=submit]")
    page.wait(f"document.querySelectorAll('.layer button').length === {config.n_heads}")
    page.fill("#attention-text", "a" * 65)
    page.click("#attention [type=submit]")
    page.wait("document.querySelector('#attention-note').textContent.includes('shorten it')")


def test_the_key_stays_in_the_tab(page: Page, script: Script) -> None:
    """Guards: a key that is not sent, or that is kept on the disk."""
    page.fill("#key", "secret-key-of-sixteen")
    page.run("document.querySelector('#key').blur()")
    ask(page, "hi")
    assert script.asked[0][1]["authorization"] == "Bearer secret-key-of-sixteen"
    assert page.run("localStorage.length + document.cookie.length") == 0


def test_a_skip_names_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a page that is never looked at because the browser's name changed, and nobody hears of it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="no chromium on this machine"), chromium(tmp_path):
        pass
