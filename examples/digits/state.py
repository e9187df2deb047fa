"""A training run's state on disk: one safetensors file, replaced atomically."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

STATE = "state.safetensors"


def save_state(
    file: Path, modules: dict[str, Any], optimizers: list[Any], progress: dict[str, Any]
) -> None:
    """Write weights, optimizer moments and progress (anything JSON can hold)."""
    tensors: dict[str, torch.Tensor] = {}
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            tensors[f"module.{name}.{key}"] = value.detach().clone().contiguous()
    for number, optimizer in enumerate(optimizers):
        for place, moments in optimizer.state_dict()["state"].items():
            for key, value in moments.items():
                tensors[f"optimizer.{number}.{place}.{key}"] = torch.as_tensor(value).clone()
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(".writing")
    save_file(tensors, written, metadata={"progress": json.dumps(progress)})
    written.replace(file)


def load_state(file: Path, modules: dict[str, Any]) -> dict[str, Any]:
    """Load the weights into `modules` and return the progress."""
    with safe_open(file, "pt") as opened:
        progress: dict[str, Any] = json.loads(opened.metadata()["progress"])
        keys = set(opened.keys())
        for name, module in modules.items():
            prefix = f"module.{name}."
            stored = {k[len(prefix) :]: opened.get_tensor(k) for k in keys if k.startswith(prefix)}
            if stored:
                module.load_state_dict(stored)
    return progress


def load_moments(file: Path, optimizers: list[Any]) -> None:
    """Load optimizer moments that `save_state` wrote for the same optimizers."""
    with safe_open(file, "pt") as opened:
        for key in opened.keys():  # noqa: SIM118 - safe_open is no mapping
            kind, *rest = key.split(".", 3)
            if kind != "optimizer":
                continue
            number, place, name = rest
            optimizer = optimizers[int(number)]
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            optimizer.state[parameters[int(place)]][name] = opened.get_tensor(key)
