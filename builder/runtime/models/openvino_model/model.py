"""Triton Python model: a graph on OpenVINO."""

import json
from pathlib import Path
from typing import Any

from ..common.batches import answer_requests
from ..common.settings import WarmUp, read_settings
from .openvino_settings import OpenVinoSettings
from .session import OpenVinoSession


class TritonPythonModel:
    """Runs the graph on the tensors of its requests."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compile the graph and run every shape that is expected."""
        config = json.loads(args["model_config"])
        settings = read_settings(OpenVinoSettings, config)
        folder = Path(args["model_repository"]) / args["model_version"]
        self._limits = settings.index_limits
        self._outputs = [io["name"] for io in config["output"]]
        self._session = OpenVinoSession(
            folder / "model.onnx", threads=settings.threads, precision=settings.precision
        )
        for batch in WarmUp.of(settings, config).batches():
            self._session.run(batch)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Requests of equal shapes share a run."""
        return answer_requests(requests, self._outputs, self._session.run, self._limits)
