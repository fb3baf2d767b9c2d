"""`rawgpt sample`: text from a model, as it is generated."""

import json
import secrets
from typing import TYPE_CHECKING, Annotated

from typer import Option

if TYPE_CHECKING:
    from gpt.catalog.open_model import OpenModel
    from gpt.generate.proposers import Proposer


def sample(
    model: Annotated[str, Option(help="A stage, a folder, a .gguf file or smollm2-135m.")] = "pretrain",
    prompt: Annotated[str, Option(help="Text to continue; empty begins a new document.")] = "",
    chat: Annotated[bool, Option("--chat", help="Send the prompt as a user's turn of a chat.")] = False,
    max_tokens: Annotated[int, Option(help="Most tokens; the model's context may end sooner.")] = 200,
    temperature: Annotated[float, Option(help="0 always takes the likeliest token.")] = 0.8,
    top_k: Annotated[int, Option(help="Keep the k likeliest tokens; 0 keeps all.")] = 0,
    top_p: Annotated[float, Option(help="Keep the likeliest tokens that reach p together.")] = 1.0,
    min_p: Annotated[float, Option(help="Keep tokens this fraction as likely as the likeliest.")] = 0.0,
    repetition_penalty: Annotated[float, Option(help="Above 1 makes seen tokens less likely.")] = 1.0,
    stop: Annotated[list[str] | None, Option(help="End in front of this text; may be repeated.")] = None,
    seed: Annotated[int | None, Option(help="The same seed gives the same text; else one is drawn.")] = None,
    device: Annotated[str, Option(help="cpu, cuda or mps.")] = "cpu",
    draft: Annotated[
        str | None, Option(help="A smaller model that guesses ahead, or `text`: what the text said before.")
    ] = None,
    draft_tokens: Annotated[int, Option(help="Most tokens guessed at a time, with --draft.")] = 4,
    int4_backend: Annotated[
        str, Option(help="Of a 4-bit model on a CPU: auto, c, torch or reference.")
    ] = "auto",
    as_json: Annotated[bool, Option("--json", help="Print one JSON object at the end.")] = False,
) -> int:
    """Generate text with a model of the DAG, of the registry or of a file.

    Prints what the model adds to the prompt, while it is generated.

    Example: `rawgpt sample --model pretrain --prompt "ROMEO:" --temperature 0.8 --seed 1`
    """
    from gpt.generate.config import SamplingConfig

    sampling = SamplingConfig(
        max_tokens=max_tokens,
        seed=secrets.randbits(63) if seed is None else seed,
        repetition_penalty=repetition_penalty,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
    )
    if not all(stop or []):
        raise ValueError("stop: an empty text would stop at once; leave it out")
    if draft_tokens < 1:
        raise ValueError(f"draft_tokens: at least 1 is needed, got {draft_tokens}")
    from gpt.catalog.open_to_run import open_to_run  # after the dials: a typo should not wait for torch
    from gpt.generate.generate_text import generate_text
    from gpt.tokenizer.chat_template import encode_prompt

    opened = open_to_run(model, device=device, int4_backend=int4_backend)
    tokenizer = opened.tokenizer
    if chat:
        prompt_ids = encode_prompt(tokenizer, [{"role": "user", "content": prompt}])
    else:
        prompt_ids = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    proposer = None if draft is None else open_proposer(draft, opened, draft_tokens)
    pieces = []
    for piece in generate_text(
        opened.model,
        tokenizer,
        prompt_ids,
        sampling,
        stop=stop or (),
        device=opened.device,
        proposer=proposer,
        n_proposed=draft_tokens,
    ):
        pieces.append(piece)
        if not as_json:
            print(piece.text, end="", flush=True)
    if as_json:
        result = {
            "model": opened.name,
            "sha256": opened.sha256,
            "prompt": prompt,
            "text": "".join(piece.text for piece in pieces),
            "finish_reason": pieces[-1].finish_reason,
            "seed": sampling.seed,
            "n_prompt_tokens": len(prompt_ids),
            "n_tokens": pieces[-1].n_tokens,
        }
        print(json.dumps(result, ensure_ascii=False))
    else:
        print()
    return 0


def open_proposer(draft: str, target: "OpenModel", draft_tokens: int) -> "Proposer":
    """Open what guesses for the target; raises ValueError for a draft with other tokens."""
    from gpt.catalog.open_model import open_model
    from gpt.generate.proposers import DraftModel, RepeatedText

    if draft == "text":
        return RepeatedText()
    opened = open_model(draft, device=str(target.device))
    ours, theirs = opened.tokenizer.fingerprint, target.tokenizer.fingerprint
    if ours != theirs:
        raise ValueError(
            f"draft: {draft} has another tokenizer ({ours}) than {target.name} ({theirs}), so its guesses "
            "mean other tokens; choose a model of the same tokenizer, or type --draft text"
        )
    return DraftModel(opened.model, most=draft_tokens)
