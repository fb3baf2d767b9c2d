"""What does the server make of 1, 64 and 500 streams at once, and how soon is a cut stream's slot free?

    python -m benchmarks.server_load   (3 to 4 minutes; smollm2-135m comes out of the registry's cache)

`rawgpt serve` in a process of its own on the loopback address, the clients in this one, over bare sockets.
Rounds of one stream and of 64 are interleaved. Every prompt is of random ids, so nothing is found in the
cache; texts are greedy and go on to max_tokens unless the model stops. Tokens per second are of the whole:
from the first request sent to the last answer ended, prompts included. Beside them the server's own CPU time,
which a busy machine moves less. Then 500 streams against the queue's limit, and 64 of which 30% are cut:
until the server's own gauge counts the others alone. Writes the table of docs/chapters/server.md.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.result_file import write_result
from benchmarks.tokenizer_chapter import rewrite

SEED = 0
CHAPTER = Path(__file__).parents[1] / "docs/chapters/server.md"
MANY, SURPLUS, CUT_SHARE = 64, 500, 0.3
Address = tuple[str, int]


@dataclass(kw_only=True, slots=True)
class Seen:
    """One answer as its client saw it."""

    status: int = 0
    retry_after: bool = False
    first_token_s: float = 0.0
    n_tokens: int = 0
    is_whole: bool = False


def post(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


async def stream(address: Address, prompt: Sequence[int], n: int, cut: asyncio.Event | None = None) -> Seen:
    """Read one stream to its end, or until `cut` is set behind its first token."""
    seen, began = Seen(), time.perf_counter()
    reader, writer = await asyncio.open_connection(*address)
    options = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
    writer.write(post({"prompt": list(prompt), "max_tokens": n, **options}))
    try:
        seen.status = int((await reader.readline()).split()[1])
        while (line := await reader.readline()).strip():
            seen.retry_after |= line.lower().startswith(b"retry-after")
        while seen.status == 200 and (line := await reader.readline()):
            if b'"choices":[{' in line and not seen.first_token_s:
                seen.first_token_s = time.perf_counter() - began
            if b'"usage"' in line:
                seen.n_tokens = json.loads(line.removeprefix(b"data: "))["usage"]["completion_tokens"]
            seen.is_whole |= line.startswith(b"data: [DONE]")
            if cut is not None and seen.first_token_s:
                await cut.wait()
                return seen
    finally:
        writer.close()
    return seen


async def gauge(address: Address, name: str) -> float:
    """Return a figure of /metrics."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    found = re.search(rf"^{name}{{.*}} (\S+)\r?$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


class Load:
    """The scenes against one running server."""

    def __init__(self, address: Address, process: psutil.Process, n_prompt: int, n_vocab: int) -> None:
        self.address, self.process = address, process
        self._draw = random.Random(SEED)
        self._prompt = (n_prompt, n_vocab)

    def prompts(self, n: int) -> list[list[int]]:
        length, n_vocab = self._prompt
        return [[self._draw.randrange(n_vocab) for _ in range(length)] for _ in range(n)]

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    async def at_once(self, n: int, n_tokens: int) -> dict[str, Any]:
        """Send n streams at once; return their rates and first-token times."""
        prompts = self.prompts(n)
        cpu, began = self.cpu_s(), time.perf_counter()
        seen = await asyncio.gather(*(stream(self.address, prompt, n_tokens) for prompt in prompts))
        wall, cpu = time.perf_counter() - began, self.cpu_s() - cpu
        made = sum(one.n_tokens for one in seen)
        return {
            "whole": sum(one.is_whole and one.status == 200 for one in seen),
            "refused": sum(one.status == 429 for one in seen),
            "refused_with_retry_after": sum(one.status == 429 and one.retry_after for one in seen),
            "tokens": made,
            "tokens_per_s": made / wall,
            "tokens_per_cpu_s": made / cpu,
            "first_token_s": sorted(one.first_token_s for one in seen if one.first_token_s),
        }

    async def cut(self, n: int, n_tokens: int) -> dict[str, Any]:
        """Cut 30% of n streams when all have begun; return the time until their slots are free."""
        cut = asyncio.Event()
        n_cut = round(n * CUT_SHARE)
        tasks = [
            asyncio.create_task(stream(self.address, prompt, n_tokens, cut if i < n_cut else None))
            for i, prompt in enumerate(self.prompts(n))
        ]
        while await gauge(self.address, "rawgpt_first_token_seconds_count") < n + self._begun:
            await asyncio.sleep(0.05)
        running = await gauge(self.address, "rawgpt_running_texts")
        cut.set()
        began = time.perf_counter()
        while await gauge(self.address, "rawgpt_running_texts") > n - n_cut:
            await asyncio.sleep(0.02)
        free_s = time.perf_counter() - began
        seen = await asyncio.gather(*tasks)
        whole = sum(one.is_whole for one in seen[n_cut:])
        return {
            "streams": n,
            "cut": n_cut,
            "running_before": running,
            "free_s": free_s,
            "others_whole": whole,
        }

    _begun = 0.0

    async def all(self, rounds: int, n_tokens: int) -> dict[str, Any]:
        """Play every scene."""
        await self.at_once(2, 4)  # warm
        one, many = [], []
        for _ in range(rounds):
            one.append(await self.at_once(1, 2 * n_tokens))
            many.append(await self.at_once(MANY, n_tokens))
        surplus = await self.at_once(SURPLUS, 8)
        self._begun = await gauge(self.address, "rawgpt_first_token_seconds_count")
        return {"one": one, "many": many, "surplus": surplus, "cut": await self.cut(MANY, 2 * n_tokens)}


def summary(scenes: dict[str, Any]) -> dict[str, Any]:
    """Reduce the rounds to medians; standard errors are of the rounds' mean."""
    result: dict[str, Any] = {}
    for name in ("one", "many"):
        rounds = scenes[name]
        times = [t for scene in rounds for t in scene["first_token_s"]]
        entry = {"whole": sum(scene["whole"] for scene in rounds)}
        for key in ("tokens_per_s", "tokens_per_cpu_s"):
            rates = [scene[key] for scene in rounds]
            entry[key] = round(statistics.median(rates), 2)
            if len(rates) > 1:
                entry[f"{key}_standard_error"] = round(statistics.stdev(rates) / len(rates) ** 0.5, 2)
        cuts = statistics.quantiles(times, n=20) if len(times) > 1 else times * 19
        result[name] = entry | {
            "first_token_p50_s": round(cuts[9], 3),
            "first_token_p95_s": round(cuts[18], 3),
        }
    for key in ("tokens_per_s", "tokens_per_cpu_s"):
        result[f"ratio_{key}"] = round(result["many"][key] / result["one"][key], 2)
    surplus = scenes["surplus"]
    result["surplus"] = {key: surplus[key] for key in ("whole", "refused", "refused_with_retry_after")}
    result["cut"] = scenes["cut"] | {"free_s": round(scenes["cut"]["free_s"], 3)}
    return result


def table(result: dict[str, Any]) -> str:
    """Return the chapter's table."""
    one, many, surplus, cut = (result[key] for key in ("one", "many", "surplus", "cut"))
    sizes = "{model}, prompts of {prompt_tokens} tokens, {tokens_of_one_of_many} tokens each"
    rows = [
        f"| {sizes.format(**result['setting'])} | tokens/s "
        "| tokens per CPU second of the server | first token, p50 | p95 |",
        "|---|---|---|---|---|",
    ]
    for label, entry in (("1 stream", one), (f"{MANY} streams", many)):
        rates = f"{entry['tokens_per_s']:.1f} | {entry['tokens_per_cpu_s']:.1f}"
        rows.append(
            f"| {label} | {rates} | {entry['first_token_p50_s']:.2f} s | {entry['first_token_p95_s']:.2f} s |"
        )
    rows.append(
        f"| ratio | {result['ratio_tokens_per_s']:.1f} | {result['ratio_tokens_per_cpu_s']:.1f} | | |"
    )
    rows.append(
        f"| {SURPLUS} streams | {surplus['whole']} whole, {surplus['refused']} answered 429, "
        f"{surplus['refused_with_retry_after']} of them with Retry-After | | | |"
    )
    rows.append(
        f"| {cut['cut']} of {cut['streams']} cut | slots free after {cut['free_s']:.2f} s, "
        f"{cut['others_whole']} others whole | | | |"
    )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="what `rawgpt serve --model` takes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--tokens", type=int, default=32, help="of each of the 64 streams; one stream makes twice"
    )
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--try", dest="is_try", action="store_true", help="keep nothing")
    args = parser.parse_args()
    command = [sys.executable, "-m", "rawgpt", "serve", "--model", args.model, "--port", "0"]
    limits = ["--max-running", str(MANY), "--max-waiting", str(MANY), "--drain", "0"]
    process = subprocess.Popen(
        [*command, *limits], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://([\d.]+):(\d+)$", process.stdout.readline().strip())
        assert found, "the server did not start; try the same `rawgpt serve`"
        address = (found.group(1), int(found.group(2)))
        load = Load(address, psutil.Process(process.pid), args.prompt_tokens, n_vocab=256)
        scenes = asyncio.run(load.all(args.rounds, args.tokens))
    finally:
        process.terminate()
        process.wait(timeout=60)
    setting = {
        "model": Path(args.model).name,
        "rounds": args.rounds,
        "tokens_of_one_of_many": args.tokens,
        "tokens_of_one": 2 * args.tokens,
        "prompt_tokens": args.prompt_tokens,
        "max_running": MANY,
        "max_waiting": MANY,
        "seed": SEED,
    }
    result = {"setting": setting, **summary(scenes)}
    if args.is_try:
        print(json.dumps(result, indent=2))
        return
    write_result("server_load", result)
    page = rewrite(CHAPTER.read_text(encoding="utf-8"), {"load": table(result)})
    CHAPTER.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
