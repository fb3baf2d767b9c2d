"""One question to vLLM in its own environment: JSON on stdin, [[token, logprob], ...] on the last line.

Not a benchmark of its own: export_against_peers starts it.
"""

import argparse
import json
import os
import sys

os.environ.update(
    {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
)


def main() -> None:
    """Answer the question on stdin."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    from vllm import LLM, SamplingParams

    question = json.load(sys.stdin)
    model = LLM(
        question["folder"],
        skip_tokenizer_init=True,
        enforce_eager=True,
        dtype=question["dtype"],
        max_model_len=512,
    )
    sampling = SamplingParams(
        temperature=0.0,
        max_tokens=question["n"],
        ignore_eos=True,
        logprobs=1,
        logit_bias=dict.fromkeys(question["banned"], -100.0),
        detokenize=False,
    )
    (answer,) = model.generate([{"prompt_token_ids": question["ids"]}], sampling, use_tqdm=False)
    out = answer.outputs[0]
    pairs = [[t, step[t].logprob] for t, step in zip(out.token_ids, out.logprobs, strict=True)]
    print(json.dumps(pairs))


if __name__ == "__main__":
    main()
