"""The limits of the server. Standard library only."""

from dataclasses import dataclass, field

MIN_KEY_CHARS = 16
COUNTS = (
    "max_body_bytes",
    "max_header_bytes",
    "max_connections",
    "max_running",
    "retry_after_s",
    "max_prompt_tokens",
    "max_tokens",
    "max_choices",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """What one server lets in."""

    max_body_bytes: int = 2**20
    """Longest request body."""
    max_header_bytes: int = 2**14
    """Longest head of a request, its names and values together."""
    header_timeout_s: float = 10.0
    """How long a connection may take over the head of a request."""
    body_timeout_s: float = 10.0
    """How long a request may take over its body."""
    max_connections: int = 1024
    """Connections that are open at once; one more request is answered 503."""
    max_running: int = 64
    """Texts of one model that are generated together."""
    max_waiting: int = 64
    """Texts of one model that may wait for those; the next request is answered 429."""
    retry_after_s: int = 1
    """What a refused client is told to wait."""
    max_prompt_tokens: int | None = None
    """Longest prompt; none leaves it to the model's context."""
    max_tokens: int | None = None
    """Most tokens a request may ask for; none leaves it to the model's context."""
    max_choices: int = 32
    """Most texts of one request: its prompts times n."""
    request_timeout_s: float = 600.0
    """How long one answer may take, waiting included."""
    drain_s: float = 10.0
    """How long running answers may go on after SIGTERM."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """Keys of which a request must bear one; without any the server asks for none."""
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """Host headers answered, without port; `*` answers all. Keeps a web page from reaching a loopback
    server under a name of its own."""

    def __post_init__(self) -> None:
        for name in COUNTS:
            if (count := getattr(self, name)) is not None and count < 1:
                raise ValueError(f"{name}: at least 1 is needed, got {count}")
        if self.max_waiting < 0:
            raise ValueError(f"max_waiting: 0 or more is needed, got {self.max_waiting}")
        for name in ("header_timeout_s", "body_timeout_s", "request_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: more than 0 seconds is needed, got {getattr(self, name)}")
        if not self.drain_s >= 0:
            raise ValueError(f"drain_s: 0 seconds or more is needed, got {self.drain_s}")
        if not self.allowed_hosts:
            raise ValueError("allowed_hosts: it is empty; name a host, or * for all")
        for i, key in enumerate(self.api_keys):  # its place, never the key: messages reach logs
            if len(key) < MIN_KEY_CHARS or not (key.isascii() and key.isprintable()) or " " in key:
                raise ValueError(
                    f"api_keys: key {i + 1} of {len(self.api_keys)} must be {MIN_KEY_CHARS} or more ASCII "
                    "characters without a space; `openssl rand -hex 24` makes one"
                )
