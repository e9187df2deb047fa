"""LitServe with batching: https://lightning.ai/docs/litserve/features/batching."""

import os
from typing import Any

import litserve

from benchmarks.serving.apps.encoder import Encoder


class Embedding(litserve.LitAPI):
    """One text in, one vector out; LitServe joins requests."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.encoder = Encoder()

    def decode_request(self, request: dict[str, str], **_: Any) -> str:
        """The text."""
        return request["text"]

    def predict(self, texts: list[str], **_: Any) -> Any:
        """A batch of vectors."""
        return self.encoder(texts)

    def encode_response(self, output: Any, **_: Any) -> dict[str, list[float]]:
        """A vector."""
        return {"embedding": output.tolist()}


if __name__ == "__main__":
    api = Embedding(
        max_batch_size=16,
        batch_timeout=float(os.environ.get("BENCH_BATCH_SECONDS", "0.005")),
        api_path="/embed",
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
