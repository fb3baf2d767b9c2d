"""What a client may ask: the bodies of OpenAI's completion and chat requests.

A key of theirs that this server cannot honour is refused by name unless it asks for nothing; so is a key
that nobody knows. top_k, min_p and repetition_penalty are the usual extras.
"""

import secrets
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SkipValidation,
    field_validator,
    model_validator,
)

from gpt.generate.config import SamplingConfig

UNSUPPORTED: dict[str, Any] = {
    "suffix": "",
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "tools": [],
    "tool_choice": "none",
    "modalities": ["text"],
    "service_tier": "auto",
    "response_format": {"type": "text"},
}
"""Keys of OpenAI's requests that do nothing here, with the value that asks for nothing."""
UNSUPPORTED_OF_MESSAGES: dict[str, Any] = {"tool_calls": [], "annotations": []}
"""The same of a chat's turns: an assistant's may come back as a client got it, from here or elsewhere."""
LABELS = ("user", "metadata", "store", "parallel_tool_calls")
"""Keys that never change an answer; the last says how tools are called, and there are none."""
COMPLETION_MAX_TOKENS = 16
MAX_STOPS = 4
MAX_STOP_CHARS = 256
MAX_ALTERNATIVES = 20


def _whole_unicode(text: str) -> str:
    """Refuse half a surrogate pair, which JSON can write and no tokenizer can read."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} is half a surrogate pair, which is no text") from None
    return text


Text = Annotated[str, AfterValidator(_whole_unicode)]


def _asking(body: dict[Any, Any], unsupported: dict[str, Any]) -> dict[Any, Any]:
    """Return a body without the keys that ask for nothing; raises ValueError for one that asks in vain."""
    body = {key: value for key, value in body.items() if value is not None}
    for key in unsupported.keys() & body.keys():
        if body.pop(key) != unsupported[key]:
            raise ValueError(f"{key}: this server does not support it; leave it out")
    return body


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False
    """One more event in front of the end, with the token counts."""


class GenerationRequest(BaseModel):
    """What both requests share."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str | None = None
    n: int = Field(default=1, ge=1)
    """How many texts are wanted for a prompt; text j is drawn with seed + j."""
    max_tokens: int | None = None
    temperature: FiniteFloat = 1.0
    top_p: FiniteFloat = 1.0
    top_k: int = 0
    min_p: FiniteFloat = 0.0
    repetition_penalty: FiniteFloat = 1.0
    seed: int | None = None
    stop: list[Text] = Field(default_factory=list)
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            raise ValueError("the body must be a JSON object")
        return _asking({key: value for key, value in body.items() if key not in LABELS}, UNSUPPORTED)

    @field_validator("stop", mode="before")
    @classmethod
    def _stop_as_list(cls, stop: Any) -> Any:
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not all(isinstance(s, str) for s in stops):
            raise ValueError("a string or a list of strings is expected")
        if len(stops) > MAX_STOPS or not all(1 <= len(s) <= MAX_STOP_CHARS for s in stops):
            raise ValueError(f"at most {MAX_STOPS} strings of 1..{MAX_STOP_CHARS} characters")
        return stops

    @property
    def asked_tokens(self) -> int | None:
        """The most tokens that a text may have, as it was asked for."""
        return self.max_tokens

    def sampling(self, max_tokens: int) -> SamplingConfig:
        """Return the dials of the first text; a seed that was not given is drawn. Raises ValueError that
        names the key."""
        return SamplingConfig(
            max_tokens=max_tokens,
            seed=secrets.randbits(63) if self.seed is None else self.seed,
            repetition_penalty=self.repetition_penalty,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
        )


class CompletionRequest(GenerationRequest):
    """POST /v1/completions."""

    prompt: SkipValidation[list[str] | list[list[int]]]
    """As it may be sent: a string, a list of strings, a list of token ids, a list of such lists. Pydantic
    would try a union's kinds in turn, with an error for each of a million ids."""
    logprobs: int | None = Field(default=None, ge=0, le=MAX_ALTERNATIVES)
    """How many alternatives of each token are wanted with their logprobs."""
    echo: bool = False
    """Begin the answer with the prompt; then max_tokens may be 0."""
    best_of: int | None = None
    """Of no use here, but OpenAI's clients send it: 1 or n."""

    @field_validator("prompt", mode="before")
    @classmethod
    def _prompts(cls, prompt: Any) -> Any:
        prompts = [prompt] if isinstance(prompt, str) or _are_ids(prompt) else prompt
        if isinstance(prompts, list) and all(isinstance(p, str) for p in prompts):
            return [_whole_unicode(p) for p in prompts]
        if isinstance(prompts, list) and all(map(_are_ids, prompts)):
            return prompts
        raise ValueError(
            "a string, a list of strings, a list of token ids or a list of such lists is expected"
        )

    @model_validator(mode="after")
    def _fits(self) -> "CompletionRequest":
        if self.best_of not in (None, 1, self.n):
            raise ValueError(f"best_of: got {self.best_of}; leave it out, this server returns every text")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens: at least 1 is needed, or 0 with echo: true")
        return self


def _are_ids(prompt: Any) -> bool:
    return isinstance(prompt, list) and all(type(i) is int for i in prompt)


def _text_of_part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text":
        if part.keys() == {"type", "text"} and isinstance(part["text"], str):
            return part["text"]
    elif isinstance(part, dict) and isinstance(part.get("type"), str):
        raise ValueError(f"a part of type {part['type'][:40]!r} cannot be read here; send text alone")
    raise ValueError('a string or a list of {"type": "text", "text": ...} is expected')


class Message(BaseModel):
    """One turn of a chat."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["system", "user", "assistant"]
    """`developer`, the newer name of `system`, may be sent for it."""
    content: Text
    """May be sent as a list of parts, {"type": "text", "text": ...} each."""

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, message: Any) -> Any:
        if not isinstance(message, dict):
            return message
        if message.get("name") is not None:
            raise ValueError("name: no model here is shown it; leave it out, or write it into the content")
        return _asking(message, UNSUPPORTED_OF_MESSAGES)

    @field_validator("role", mode="before")
    @classmethod
    def _system_by_its_newer_name(cls, role: Any) -> Any:
        return "system" if role == "developer" else role

    @field_validator("content", mode="before")
    @classmethod
    def _parts_joined(cls, content: Any) -> Any:
        return "".join(map(_text_of_part, content)) if isinstance(content, list) else content


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=MAX_ALTERNATIVES)
    max_completion_tokens: int | None = None
    """The newer name of max_tokens."""

    @model_validator(mode="after")
    def _one_name(self) -> "ChatRequest":
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_completion_tokens: give it or max_tokens, not both")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs: true")
        return self

    @property
    def asked_tokens(self) -> int | None:
        """Whichever name was used."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
