"""Bring one URL to one file, going on where an earlier attempt broke off.

pooch does the HTTP (requests, certificates, proxies); the Range header, the retry and the progress
line are ours, because pooch starts every download anew. What arrives is not trusted here: the
registry checks the sha256, and url_source.py records it.
"""

import sys
import time
from pathlib import Path
from typing import Any

ATTEMPTS = 3
PAUSE_S = 1.0
TIMEOUT_S = (10.0, 30.0)  # to connect, between two chunks
CHUNK_BYTES = 1 << 16
PLAIN_EVERY_S = 10.0


class ProgressLine:
    """One line of progress: redrawn on a terminal, a plain line now and then in a log.

    It has the attributes that pooch asks of a progress bar: total, update, reset, close.
    """

    def __init__(self, name: str, *, size: int, start: int) -> None:
        self.total = size
        self._name, self._size, self._done = name, size, start
        self._is_terminal = sys.stderr.isatty()
        self._drawn_s = 0.0

    def update(self, n_bytes: int) -> None:
        """Add bytes and redraw if it is time."""
        self._done = min(self._done + n_bytes, self._size)
        pause = 0.1 if self._is_terminal else PLAIN_EVERY_S
        if time.monotonic() - self._drawn_s > pause:
            self._draw("\r" if self._is_terminal else "\n")

    def reset(self) -> None:
        """Called by pooch at the end; the count is kept, since a resumed file starts above zero."""
        self._done = self._size

    def close(self) -> None:
        """Draw the last state and end the line."""
        self._draw("\n")

    def _draw(self, end: str) -> None:
        self._drawn_s = time.monotonic()
        done, size = self._done / 2**20, self._size / 2**20
        text = f"{self._name}: {done:.1f} of {size:.1f} MiB ({100 * done / max(size, 1e-9):.0f}%)"
        print(text, end=end, file=sys.stderr, flush=True)


def download(url: str, part: Path, *, size: int) -> None:
    """Download `url` to `part`, appending to what is there; `size` is what the file must reach.

    Raises OSError when the server cannot be reached or answers with an error.
    """
    for attempt in range(ATTEMPTS):
        start = part.stat().st_size if part.exists() else 0
        if start >= size:  # left by a run that died before the check, or not this file at all
            return
        try:
            _download_rest(url, part, start=start, size=size)
            return
        except OSError as error:
            code = getattr(getattr(error, "response", None), "status_code", None)
            if start and code in (200, 416):  # Range is unknown there, or what we hold is not a part of it
                part.unlink()
            elif code is not None and code < 500:
                raise FileNotFoundError(f"HTTP {code}") from None
            if attempt == ATTEMPTS - 1:
                raise ConnectionError(_short(error)) from None
            time.sleep(PAUSE_S * 2**attempt)


def _download_rest(url: str, part: Path, *, start: int, size: int) -> None:
    import pooch
    import requests

    headers = {"Accept-Encoding": "identity"}  # the sha256 is of the file, not of its compression
    if start:
        headers["Range"] = f"bytes={start}-"

    def refuse_whole_file(response: requests.Response, **_: Any) -> None:
        if start and response.status_code == 200:  # it would be appended to what we hold
            raise requests.HTTPError("the server sent the whole file, not the rest", response=response)

    progress = ProgressLine(url.rsplit("/", 1)[-1], size=size, start=start)
    get = pooch.HTTPDownloader(
        progressbar=progress,
        chunk_size=CHUNK_BYTES,
        headers=headers,
        timeout=TIMEOUT_S,
        hooks={"response": refuse_whole_file},
    )
    with part.open("ab") as file:
        get(url, file, None)


def _short(error: OSError) -> str:
    """The last cause of a chain of network errors, without its object addresses."""
    text = str(error).rsplit(": ", 1)[-1].strip("()'\" ")
    return f"{type(error).__name__}: {text[:120]}"
