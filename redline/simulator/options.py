"""The arguments of `redline simulate`, apart from the program: `redline --help` must not load it."""

from __future__ import annotations

import argparse
from pathlib import Path

LOG_REQUESTS_MAX = 200_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `redline simulate`."""
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument(
        "--cpu", type=int, action="append", default=[], metavar="N", help="run on this CPU; may be repeated"
    )
    parser.add_argument(
        "--settings", default="{}", metavar="JSON", help="timing, failures, serving: JSON, or a file of it"
    )
    parser.add_argument("--ttft-s", type=float, metavar="S", help="time to the first chunk (default: 0.05)")
    parser.add_argument("--itl-s", type=float, metavar="S", help="time between chunks (default: 0.01)")
    parser.add_argument("--model", metavar="NAME", help="the model that it says it serves (default: tiny)")
    parser.add_argument("--version", metavar="X.Y.Z", help="the vLLM version that it says it is (default: 0.32.0)")
    parser.add_argument("--api-key", metavar="KEY", help="answer 401 under /v1 and /simulator without it")
    parser.add_argument(
        "--log-requests-max",
        type=int,
        default=LOG_REQUESTS_MAX,
        metavar="N",
        help="send times kept (default: %(default)s)",
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="serve HTTPS with this certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="and this key (PEM)")
    parser.add_argument("--until-stdin-ends", action="store_true", help="end when standard input ends")
