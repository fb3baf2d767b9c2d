"""The dials of the fetch and logs stages."""

from dataclasses import dataclass
from typing import Literal

from gpt.corpus.quality import QualityConfig
from gpt.workers.config import WorkersConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchConfig:
    """Which text the pipeline learns from and how it is split."""

    source: str
    """A set of the registry, a file or folder of your own, or the URL of one file (https, http, file): txt,
    md, jsonl (.gz, .bz2 and .zst too) or parquet. A path that shares its name with a set is `./name`."""
    text_field: str
    """The field (jsonl) or column (parquet) that holds the text."""
    val_fraction: float
    """Share of the documents that is held out for validation."""
    seed: int
    """Seed of the split; another seed holds out other documents."""
    min_chars: int
    """Documents shorter than this many characters (after cleaning) are left out."""
    redact: bool
    """Scrub personal data from every text and id before anything is compared or written (redact.py);
    meant for logs of your own: in prose it also takes names that follow a title."""
    near_duplicate_threshold: float
    """A document whose word shingles have this Jaccard or more with an earlier one's is left out; 0 is
    off."""
    shingle_words: int
    """Words of a shingle."""
    contamination: Literal["report", "drop"]
    """What happens to a document that holds an item of an evaluation set: it is counted, or left out."""
    quality: QualityConfig
    processes: int
    """Processes that clean, scrub and search; 0 takes one for each core."""
    extras: tuple[str, ...]
    """Registry sets that later stages use when they can be had (benchmarks, real Hinglish);
    one that cannot be had is recorded as absent in sources.json and stops nothing."""

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("source: a set of the registry or a path is needed, got ''")
        if not self.text_field:
            raise ValueError("text_field: the name of a field is needed, got ''; usual is 'text'")
        _check_fraction(self.val_fraction)
        if self.min_chars < 1:
            raise ValueError(f"min_chars: at least 1 is needed, got {self.min_chars}")
        if not (self.near_duplicate_threshold == 0 or 0.3 <= self.near_duplicate_threshold <= 1):
            raise ValueError(
                f"near_duplicate_threshold: 0 (off) or 0.3..1 is needed, got {self.near_duplicate_threshold}"
            )
        if self.shingle_words < 1:
            raise ValueError(f"shingle_words: at least 1 is needed, got {self.shingle_words}")
        WorkersConfig(processes=self.processes)
        twice = sorted({name for name in self.extras if self.extras.count(name) > 1})
        if twice:
            raise ValueError(f"extras: {', '.join(twice)} is listed twice; remove one")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnLogsConfig:
    """Where your own logs lie and how they are read."""

    folder: str
    """Folder of .jsonl, .csv, .log and .txt files; empty: none. DVC watches its content."""
    messages_field: str
    """Field or column that holds a chat: a list of turns, in a CSV as JSON."""
    role_field: str
    """Field of a turn that says who speaks: user (customer, client, human), assistant (agent, bot, support)
    or system."""
    content_field: str
    """Field of a turn that holds its words."""
    prompt_field: str
    """Field or column of a question; used where there is no chat."""
    response_field: str
    """Field or column of its answer."""
    text_field: str
    """Field or column of a raw line; used where there is neither."""
    max_turn_chars: int
    """A record with a longer turn or line is refused: it would not fit a training sequence and would be
    learned without its end."""
    max_bad_fraction: float
    """Share of bad lines above which the stage refuses the folder; below, they are named and left out."""

    def __post_init__(self) -> None:
        if self.max_turn_chars < 1:
            raise ValueError(f"max_turn_chars: at least 1 is needed, got {self.max_turn_chars}")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ValueError(f"max_bad_fraction: 0..1 is needed, got {self.max_bad_fraction}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogsConfig:
    """How many Hinglish chats and payment logs the logs stage makes."""

    n_chats: int
    """Generated chats, before exact duplicates are dropped."""
    n_payment_logs: int
    """Generated payment log lines, before exact duplicates are dropped."""
    planted_fraction: float
    """Share of the generated records that carry invented personal data, so that the scrubber's
    recall is a measured number."""
    seed: int
    n_intents: int
    """Generated customers' messages with their intent as the answer; a fifth of them is held out."""
    val_fraction: float
    """Share that is held out: of the generated and of your own records chosen by the hash of an id, of a
    real set by its own split or by hash."""
    use_real_sets: bool
    """Add the public sets that the fetch stage found."""
    max_real: int
    """Most records taken from those sets, all together."""
    n_replay: int
    """English passages and instructions at most, for finetune.data.replay_fraction to draw from."""
    own: OwnLogsConfig

    def __post_init__(self) -> None:
        for name in ("n_chats", "n_payment_logs", "n_intents", "max_real", "n_replay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: 0 or more is needed, got {getattr(self, name)}")
        if self.n_chats + self.n_payment_logs == 0:
            raise ValueError("n_chats: n_chats and n_payment_logs are both 0; ask for some records")
        if not 0 <= self.planted_fraction <= 1:
            raise ValueError(f"planted_fraction: 0..1 is needed, got {self.planted_fraction}")
        _check_fraction(self.val_fraction)


def _check_fraction(value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"val_fraction: a number between 0 and 1 is needed, got {value}")
