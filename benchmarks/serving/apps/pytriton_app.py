"""pytriton with its dynamic batcher: https://triton-inference-server.github.io/pytriton/latest/."""

import os
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.serving.apps.encoder import Encoder

encoder = Encoder()


@batch
def embed(TEXT: Any) -> dict[str, Any]:  # noqa: N803
    """A batch of texts to their vectors."""
    texts = [row[0].decode() for row in TEXT]
    return {"EMBEDDING": encoder(texts).numpy()}


if __name__ == "__main__":
    ports = {
        f"{name}_port": int(port)
        for name, port in zip(
            ("grpc", "http", "metrics"), os.environ["BENCH_PORTS"].split(","), strict=True
        )
    }
    config = TritonConfig(**ports, http_address="127.0.0.1", grpc_address="127.0.0.1")
    with Triton(config=config) as triton:
        triton.bind(
            model_name="minilm",
            infer_func=embed,
            inputs=[Tensor(name="TEXT", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="EMBEDDING", dtype=np.float32, shape=(384,))],
            config=ModelConfig(
                max_batch_size=16,
                batcher=DynamicBatcher(
                    max_queue_delay_microseconds=int(os.environ.get("BENCH_DELAY_US", "1000"))
                ),
            ),
            strict=True,
        )
        triton.serve()
