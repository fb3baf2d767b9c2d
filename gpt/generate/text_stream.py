"""Bytes of tokens in, text out, piece by piece: whole characters only, and never part of a stop string.

The text does not depend on where the bytes were cut: a character split over tokens waits for its rest, and
text that may turn into a stop string waits until it is decided.
"""

import codecs
from collections.abc import Sequence


class TextStream:
    """Incremental decoder of one generated text."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        assert all(stop), "an empty stop string would stop at once"
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(stop)
        self._held = ""
        self.released_chars = 0
        """Characters given out so far."""
        self.stopped = False
        """A stop string was met: the text has ended in front of it."""

    def offset_of(self, data: bytes) -> int:
        """Return the character at which a token with these bytes will begin, if it is pushed next."""
        decoded = self.released_chars + len(self._held)
        is_continuation = bool(data) and data[0] & 0xC0 == 0x80
        if is_continuation:
            return decoded  # the rest of the character that is still open
        return decoded + len(self._decoder.getstate()[0].decode("utf-8", "replace"))

    def push(self, data: bytes) -> str:
        """Take a token's bytes; return the text that is now certain."""
        return self._take(self._decoder.decode(data))

    def finish(self) -> str:
        """Return what was held back; an incomplete character becomes U+FFFD."""
        text = self._take(self._decoder.decode(b"", final=True))
        if self.stopped:
            return text
        rest, self._held = self._held, ""
        self.released_chars += len(rest)
        return text + rest

    def _take(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        found = self._first_stop()
        if found is None:
            cut = len(self._held) - self._possible_stop_chars()
            text, self._held = self._held[:cut], self._held[cut:]
        else:
            text, self._held, self.stopped = self._held[:found], "", True
        self.released_chars += len(text)
        return text

    def _first_stop(self) -> int | None:
        """Return where the stop string begins that is complete first (the longest of several)."""
        places = [(self._held.find(s), s) for s in self._stop]
        ends = [(begin + len(s), begin) for begin, s in places if begin >= 0]
        return min(ends)[1] if ends else None

    def _possible_stop_chars(self) -> int:
        """Return the length of the longest tail that begins a stop string."""
        longest = 0
        for stop in self._stop:
            for n in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if stop.startswith(self._held[-n:]):
                    longest = n
                    break
        return longest
