"""A headless Chromium over the DevTools protocol, as far as the page's tests need it.

Skips the test where there is no chromium, or no client for websockets.
"""

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run")
API = r"//[^/]+/(v1|playground)/"
PATIENCE_S = 60.0
"""A page that shows nothing for so long will not show it any more, however busy the machine is."""


@contextmanager
def chromium(profile: Path) -> Iterator["Browser"]:
    """Run a browser with a fresh profile."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine: the page cannot be looked at")
    client = pytest.importorskip("websockets.sync.client", reason="no websockets package to drive chromium")
    log = profile / "chromium.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [program, *ARGUMENTS, f"--user-data-dir={profile}", "about:blank"], stdout=stderr, stderr=stderr
        )
    try:
        with client.connect(_address(log, process), max_size=2**26) as socket:
            yield Browser(socket)
    finally:
        process.terminate()
        process.wait(20)


def _address(log: Path, process: "subprocess.Popen[bytes]") -> str:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"DevTools listening on (ws://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    pytest.skip(f"chromium does not start here: {log.read_text()[-300:]}")


class Browser:
    """The browser's end of the protocol."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._count = 0
        self.events: list[dict[str, Any]] = []
        """Everything the browser said without being asked."""

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Call a method; return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self._socket.recv(PATIENCE_S))
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    @contextmanager
    def page(
        self, url: str, *, width: int = 1100, height: int = 800, scheme: str = "light"
    ) -> Iterator["Page"]:
        """Open a page in a context of its own: no storage is shared."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.resize(width, height)
        page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.send("Page.navigate", url=url)
        try:
            yield page
        finally:
            self.send("Target.disposeBrowserContext", browserContextId=context)


class Page:
    """One page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the page's session."""
        return self._browser.send(method, self._session, **params)

    @property
    def complaints(self) -> list[str]:
        """What went wrong in the page: exceptions, what its policy refused, files that are not there.

        An error that the API answers is none: the page is there to say it.
        """
        said = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                details = event["params"]["exceptionDetails"]
                said.append(details.get("exception", {}).get("description", details["text"]))
            if event["method"] == "Log.entryAdded":
                entry = event["params"]["entry"]
                is_answer = entry["source"] == "network" and re.search(API, entry.get("url", ""))
                if entry["level"] == "error" and not is_answer:
                    said.append(entry["text"])
        return said

    @property
    def requested(self) -> list[str]:
        """The addresses that the page asked for."""
        sent = [e for e in self._browser.events if e["method"] == "Network.requestWillBeSent"]
        return [e["params"]["request"]["url"] for e in sent if e.get("sessionId") == self._session]

    def run(self, script: str) -> Any:
        """Evaluate an expression; return its value."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{script}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true; one that throws is not yet."""
        end = time.monotonic() + PATIENCE_S
        while not self.run(f"(() => {{ try {{ return Boolean({script}) }} catch {{ return false }} }})()"):
            assert time.monotonic() < end, f"never: {script}; {self.complaints}"
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """Return what a selector's first element shows."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def fill(self, selector: str, value: str) -> None:
        """Type into a field."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.run(f"document.querySelector({json.dumps(selector)}).select?.()")
        self.send("Input.insertText", text=value)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a select."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{field}.value = {json.dumps(value)}")
        self.run(f"{field}.dispatchEvent(new Event('change', {{bubbles: true}}))")

    def click(self, selector: str) -> None:
        """Click on an element."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key: str, code: int = 0, text: str = "") -> None:
        """Press a key where the focus is."""
        shared = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
        self.send("Input.dispatchKeyEvent", type="keyUp", **shared)

    def point(self, selector: str) -> None:
        """Move the mouse over an element."""
        box = f"document.querySelector({json.dumps(selector)}).getClientRects()[0]"
        x, y = self.run(f"[{box}.x + {box}.width / 2, {box}.y + {box}.height / 2]")
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def resize(self, width: int, height: int) -> None:
        """Give the page another size."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def screenshot(self, path: Path) -> None:
        """Save what is seen as a PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
