"""The loop of `rawgpt chat`: lines in, commands obeyed, answers out while they are generated.

Answers go to stdout, everything else to stderr. The batch engine's prefix cache makes a turn cost its own
tokens, not those of the chat so far.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

from gpt.catalog.open_model import OpenModel
from gpt.checkpoint.durable_file import write_durably
from gpt.generate.batch_engine import BatchConfig, BatchEngine
from gpt.generate.config import SamplingConfig
from gpt.generate.generate_text import PieceStream
from gpt.report.plain_text import printable
from rawgpt.conversation import Conversation

HELP = """\
/clear         forget the chat, keep the system prompt
/system TEXT   set the system prompt; without TEXT remove it
/retry         ask the last question again, with the next seed
/seed N        answer from now on with the seeds N, N+1, ...
/save FILE     write the chat to a new file, as JSON
/quit          end; Ctrl-D does the same
Ctrl-C stops an answer. A line that begins with // is sent with one slash."""


class ChatSession:
    """One chat: its history, its engine, its next seed."""

    def __init__(
        self, opened: OpenModel, sampling: SamplingConfig, system: str, *, is_terminal: bool
    ) -> None:
        self.opened, self.sampling, self.is_terminal = opened, sampling, is_terminal
        self.context = opened.model.config.max_seq_len
        self.conversation = Conversation(opened.tokenizer, self.context, system)
        block_tokens = BatchConfig().block_tokens
        cache_tokens = -(-self.context // block_tokens) * block_tokens  # one chat, whole, and no more
        config = BatchConfig(max_running=1, cache_tokens=cache_tokens)
        self.engine = BatchEngine(opened.model, config, device=opened.device)
        self.exit_code = 0
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda rest: self.note(HELP),
            "/clear": self._clear,
            "/system": self._system,
            "/retry": self._retry,
            "/seed": self._seed,
            "/save": self._save,
        }

    def run(self, first: Sequence[str] = ()) -> int:
        """Take turns until the input ends; return the exit code. `first` is asked before anything is read."""
        if self.is_terminal:
            self.note(
                f"{self.opened.name}: context {self.context} tokens, seed {self.sampling.seed}; /help helps"
            )
        for line in self._lines(first):
            text = line.strip()
            if text == "/quit":
                break
            try:
                self._take(text)
            except ValueError as error:  # a wrong command or a question that is too long ends no chat
                self.note(str(error))
                self.exit_code = 0 if self.is_terminal else 1
        return self.exit_code

    def note(self, text: str) -> None:
        """Say something that is no answer."""
        print(f"\x1b[2m{text}\x1b[0m" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)

    def _lines(self, first: Sequence[str]) -> Iterator[str]:
        yield from first
        if self.is_terminal:
            import readline  # noqa: F401  # input() with history and a cursor that moves
        while True:
            try:
                line = input("> ") if self.is_terminal else sys.stdin.readline()
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                self.note("\n(Ctrl-D or /quit ends the chat)")
                continue
            except UnicodeDecodeError:
                raise ValueError("stdin: it is not UTF-8; convert it first") from None
            if not line and not self.is_terminal:
                return
            yield line

    def _take(self, text: str) -> None:
        """Obey a command or answer a question; an empty line is neither."""
        if text.startswith("//"):
            self.answer(text[1:])
        elif text.startswith("/"):
            name, _, rest = text.partition(" ")
            if name not in self._commands:
                raise ValueError(f"{name}: no such command; /help lists them")
            self._commands[name](rest.strip())
        elif text:
            self.answer(text)

    def answer(self, question: str) -> bool:
        """Answer, and remember both, unless Ctrl-C came before the first token; return whether they are
        remembered. Raises ValueError for a question that does not fit the context."""
        n_dropped = self.conversation.n_dropped
        prompt_ids = self.conversation.prompt(question, self.sampling.max_tokens)
        if n_dropped == 0 and self.conversation.n_dropped:
            self.note(
                f"(the chat outgrew the context of {self.context} tokens: the oldest exchanges are\n"
                "forgotten until half of it is free, now and whenever it fills up again)"
            )
        sampling = self.sampling
        next_seed = (sampling.seed + 1 + 2**63) % 2**64 - 2**63  # behind the largest follows the smallest
        self.sampling = replace(sampling, seed=next_seed)
        stop_ids = frozenset(self.opened.tokenizer.special_tokens.values())
        request = self.engine.submit(prompt_ids, sampling, stop_ids=stop_ids)
        stream = PieceStream(self.opened.tokenizer)
        answer_ids, texts, reason = [], [], None
        try:
            with interrupts_held() as interrupted:
                while reason is None and not interrupted.is_set():
                    for _, step in self.engine.step():
                        answer_ids.append(step.token_id)
                        piece = stream.push(step)
                        texts.append(piece.text)
                        reason = piece.finish_reason
                        print(printable(piece.text), end="", flush=True)
        finally:
            self.engine.cancel(request)
        print(flush=True)
        if reason != "stop":
            self.note("(stopped)" if reason is None else "(cut: --max-tokens, or the context is full)")
        if answer_ids:
            self.conversation.add(question, "".join(texts), answer_ids)
        return bool(answer_ids)

    def _clear(self, rest: str) -> None:
        self.conversation.clear()
        self.note("(a new chat)")

    def _system(self, text: str) -> None:
        self.conversation.system = text
        self.note("(the system prompt is set)" if text else "(no system prompt)")

    def _retry(self, rest: str) -> None:
        if not self.conversation.exchanges:
            raise ValueError("/retry: nothing was asked yet")
        last = self.conversation.exchanges.pop()
        is_answered = False
        try:
            is_answered = self.answer(last.question)
        finally:
            if not is_answered:
                self.conversation.exchanges.append(last)

    def _seed(self, text: str) -> None:
        try:
            seed = int(text)
        except ValueError:
            raise ValueError(f"/seed: a whole number is needed, got {text!r}; type /seed 1") from None
        self.sampling = replace(self.sampling, seed=seed)
        self.note(f"(the next answer has seed {seed})")

    def _save(self, text: str) -> None:
        if not text:
            raise ValueError("/save: a file is needed; type /save chat.json")
        path = Path(text).expanduser()
        if path.exists():
            raise ValueError(f"/save: {path} is there already; name another file")
        chat = {
            "model": self.opened.name,
            "sha256": self.opened.sha256,
            "n_forgotten_exchanges": self.conversation.n_dropped,
            "messages": self.conversation.messages,
        }
        draft = path.with_name(f".{path.name}.draft")
        try:
            write_durably(draft, [json.dumps(chat, ensure_ascii=False, indent=2).encode() + b"\n"])
            os.replace(draft, path)
        except OSError as error:
            raise ValueError(f"/save: {path}: {error.strerror or error}") from None
        self.note(f"({path})")


@contextmanager
def interrupts_held() -> Iterator[Event]:
    """Let Ctrl-C set an event instead of breaking into a step, which would leave the engine half done."""
    interrupted = Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
