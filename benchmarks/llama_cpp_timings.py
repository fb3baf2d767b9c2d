"""llama.cpp beside others: a process that decodes and reads when it is told to.

    PEERS_PYTHON benchmarks/llama_cpp_timings.py FILE.gguf THREADS     (started by cpu_int4_decode.py)

Each line on stdin is `{"prompt": [ids], "n": tokens}`; the answer is llama.cpp's own timings of that request.
It imports nothing of this repository: its environment has no other package of ours.
"""

import argparse
import json
import sys
import urllib.request


def main() -> None:
    """Serve the file on loopback and answer until stdin ends."""
    import xllamacpp

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("threads", type=int)
    args = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = args.file
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 1024, 1, True, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    params.hostnames, params.port = ["127.0.0.1"], 0
    server = xllamacpp.Server(params)
    for line in sys.stdin:
        asked = json.loads(line)
        question = {
            "prompt": asked["prompt"],
            "n_predict": asked["n"],
            "temperature": 0.0,
            "top_k": 1,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        request = urllib.request.Request(
            f"{server.listening_address}/completion",
            json.dumps(question).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as reply:
            timings = json.load(reply)["timings"]
        print("timings " + json.dumps(timings), flush=True)


if __name__ == "__main__":
    main()
