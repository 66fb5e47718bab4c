"""Real vLLM on the CPU, from an environment of its own; the build and its traps are in constraints-vllm.txt."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.server_process import HOST, ServerProcess, free_port

START_TIMEOUT_S = 300
"""Forty seconds to a minute and a half on two busy cores."""

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "OMP_NUM_THREADS": "1",
    # Else the first log-probabilities are compiled: twenty seconds, and a C++ compiler that may be missing.
    "TORCHDYNAMO_DISABLE": "1",
}


def vllm_server(python: Path, checkpoint: Path, model: str, log: Path, *, dtype: str = "float32") -> ServerProcess:
    """The checkpoint served as `model` over its whole context, with tool calls in Hermes form.

    `python` is that of the vLLM environment. `dtype` is what vLLM computes in, whatever the weights are stored in.
    """
    port = free_port()
    context_tokens = json.loads((checkpoint / "config.json").read_text())["max_position_embeddings"]
    # The `vllm` command of this build looks for the metadata of a distribution called vllm and fails.
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(checkpoint), "--served-model-name", model]
    command += ["--host", HOST, "--port", str(port), "--dtype", dtype]
    command += ["--max-model-len", str(context_tokens), "--max-num-seqs", "8", "--enforce-eager"]
    command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    return ServerProcess(command, model, port, log, ENVIRONMENT)
