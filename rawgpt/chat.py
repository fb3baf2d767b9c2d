"""`rawgpt chat`: an interactive chat with a model on the terminal, or one line a turn through a pipe."""

import secrets
import sys
from typing import Annotated

from typer import Option


def chat(
    model: Annotated[str, Option(help="A stage, a folder, a .gguf file or smollm2-135m.")] = "finetune",
    prompt: Annotated[str, Option(help="A first turn, asked at once.")] = "",
    system: Annotated[str, Option(help="What the model is told in front of the chat.")] = "",
    max_tokens: Annotated[int, Option(help="Most tokens of an answer.")] = 512,
    temperature: Annotated[float, Option(help="0 always takes the likeliest token.")] = 0.8,
    top_k: Annotated[int, Option(help="Keep the k likeliest tokens; 0 keeps all.")] = 0,
    top_p: Annotated[float, Option(help="Keep the likeliest tokens that reach p together.")] = 1.0,
    min_p: Annotated[float, Option(help="Keep tokens this fraction as likely as the likeliest.")] = 0.0,
    repetition_penalty: Annotated[float, Option(help="Above 1 makes seen tokens less likely.")] = 1.0,
    seed: Annotated[int | None, Option(help="The same seed and turns give the same chat.")] = None,
    device: Annotated[str, Option(help="cpu, cuda or mps.")] = "cpu",
    int4_backend: Annotated[
        str, Option(help="Of a 4-bit model on a CPU: auto, c, torch or reference.")
    ] = "auto",
) -> int:
    """Chat with a model that was tuned to; the answers stream, the history is kept.

    /help lists the commands. Ctrl-C stops an answer, Ctrl-D ends the chat. When the chat outgrows the
    model's context its oldest exchanges are forgotten. Through a pipe every line is a turn, the answers
    alone go to stdout, and a line that cannot be answered makes the exit code 1.

    Example: `rawgpt chat --model smollm2-135m --temperature 0.7`
    """
    from gpt.generate.config import SamplingConfig

    sampling = SamplingConfig(
        max_tokens=max_tokens,
        seed=secrets.randbits(32) if seed is None else seed,
        repetition_penalty=repetition_penalty,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
    )
    from gpt.catalog.chat_ability import can_chat  # after the dials: a typo should not wait for torch
    from gpt.catalog.open_to_run import open_to_run
    from rawgpt.chat_session import ChatSession

    opened = open_to_run(model, device=device, int4_backend=int4_backend)
    if not can_chat(opened):
        raise ValueError(
            f"model: {opened.name} was never tuned on the chat template; type `rawgpt sample --model {model} "
            "--prompt TEXT`, or chat with finetune"
        )
    session = ChatSession(opened, sampling, system, is_terminal=sys.stdin.isatty())
    return session.run([prompt] if prompt else [])
