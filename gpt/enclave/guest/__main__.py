"""`python -m guest --model FOLDER --vsock 5000`, or `--tcp PORT` on loopback."""

import argparse
from pathlib import Path

from .completions import open_completer
from .server import GuestServer

ANY_CID = 0xFFFFFFFF


def main() -> None:
    """Open the model, then serve until killed."""
    parser = argparse.ArgumentParser(prog="guest")
    parser.add_argument("--model", type=Path, required=True)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--tcp", type=int, help="loopback port; 0 takes a free one")
    where.add_argument("--vsock", type=int, help="vsock port")
    args = parser.parse_args()
    completer = open_completer(args.model)
    is_vsock = args.vsock is not None
    address = (ANY_CID, args.vsock) if is_vsock else ("127.0.0.1", args.tcp)
    with GuestServer(address, completer, is_vsock=is_vsock) as server:
        print(f"listening on {'vsock' if is_vsock else 'tcp'} port {server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
