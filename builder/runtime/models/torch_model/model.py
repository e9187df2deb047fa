"""Triton Python model: a checkpoint on torch."""

import json
from pathlib import Path
from typing import Any

from ..common.batches import answer_requests
from ..common.settings import WarmUp, read_settings
from .runner import TorchRunner
from .torch_settings import TorchSettings


class TritonPythonModel:
    """Runs the checkpoint on the tensors of its requests."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load, compile, and run every shape that is expected."""
        config = json.loads(args["model_config"])
        gpu = args["model_instance_kind"] == "GPU"
        self._outputs = [io["name"] for io in config["output"]]
        settings = read_settings(TorchSettings, config)
        self._limits = settings.index_limits
        self._runner = TorchRunner(
            Path(args["model_repository"]) / args["model_version"],
            settings,
            self._outputs,
            f"cuda:{args['model_instance_device_id']}" if gpu else "cpu",
        )
        self._runner.warm_up(WarmUp.of(settings, config).batches())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Requests of equal shapes share a run."""
        return answer_requests(requests, self._outputs, self._runner.run, self._limits)
