"""A checkpoint on torch: attention, compiling, and the shapes that are compiled for.

https://docs.pytorch.org/docs/stable/generated/torch.compile.html
"""

import json
import locale
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch._inductor.config
import transformers
from numpy.typing import NDArray

from .heads import served_module

Arrays = Mapping[str, NDArray[Any]]

_SHAPES = 1024
"""Most shapes that are compiled for."""


@dataclass(frozen=True)
class Settings:
    """How a checkpoint is run.

    Attributes:
        auto_class: `AutoModelFor...` that reads it.
        head: What is served of its output, a key of `heads.HEADS`.
        head_parameters: Arguments of the head.
        outputs: Names of the served tensors, in the head's order.
        attention: `sdpa` or `eager`.
        mode: Mode of torch.compile; empty: not compiled.
        dynamic: One compiled graph for every shape; else one for each.
        freeze: Weights are constants of the compiled graph, packed for the processor.
        batch_sizes: Compiled sizes where shapes are not dynamic; smaller batches are filled up.
        threads: Threads of a run; 0: torch decides.
    """

    auto_class: str
    head: str
    head_parameters: Mapping[str, Any]
    outputs: Sequence[str]
    attention: str = "sdpa"
    mode: str = ""
    dynamic: bool = True
    freeze: bool = False
    batch_sizes: Sequence[int] = ()
    threads: int = 0

    @classmethod
    def of(cls, values: Mapping[str, str], outputs: Sequence[str]) -> "Settings":
        """Settings from a model config's parameters."""
        return cls(
            auto_class=values["auto_class"],
            head=values["head"],
            head_parameters=json.loads(values["head_parameters"]),
            outputs=tuple(outputs),
            attention=values["attention"],
            mode=values["compile_mode"],
            dynamic=values["dynamic"] == "true",
            freeze=values["freeze"] == "true",
            batch_sizes=tuple(json.loads(values["warmup_batch_sizes"])),
            threads=int(values["threads"]),
        )


class TorchRunner:
    """A loaded checkpoint, for one request at a time."""

    def __init__(self, folder: Path, settings: Settings, device: str = "cpu") -> None:
        """Load the weights, from safetensors only.

        Args:
            folder: Holds `config.json` and `model.safetensors`.
            settings: How it is run.
            device: A torch device.
        """
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self._device = torch.device(device)
        model = getattr(transformers, settings.auto_class).from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation=settings.attention,
            local_files_only=True,
        )
        module = served_module(model, settings.head, settings.head_parameters)
        module = module.eval().requires_grad_(False).to(self._device)
        self._module: Any = module
        if settings.mode:
            # Triton's stub starts Python in the C locale; inductor's own templates are UTF-8.
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
            # By default torch gives a function up that was compiled for eight shapes.
            torch._dynamo.config.recompile_limit = _SHAPES
            # As options too: what is compiled for one runner is not taken for another that
            # differs in nothing else.
            options = torch._inductor.list_mode_options(settings.mode, settings.dynamic)
            options["freezing"] = settings.freeze
            self._module = torch.compile(module, dynamic=settings.dynamic, options=options)
        self._warm = not settings.mode

    def warm_up(self, batches: Sequence[Arrays]) -> None:
        """Run every batch; from then on nothing is compiled: what is new runs uncompiled."""
        for batch in batches:
            self.run(batch)
        self._warm = True

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Every output by name, with any batch size and any length."""
        if not self._warm:
            # Dynamo asks the process's configuration whether parameters become constants.
            with torch._inductor.config.patch(freezing=self._settings.freeze):
                return self._run(inputs)
        with torch.compiler.set_stance("eager_on_recompile"):
            return self._run(inputs)

    def _run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        count = len(next(iter(inputs.values())))
        size = self._filled(count)
        tensors = {}
        for name, array in inputs.items():
            tensor = torch.tensor(array)
            if size > count:
                tensor = torch.cat([tensor, tensor[:1].expand(size - count, *tensor.shape[1:])])
            tensors[name] = tensor.to(self._device)
        with torch.no_grad():
            result = self._module(**tensors)
        values = result if isinstance(result, tuple) else (result,)
        return {
            name: value[:count].float().cpu().numpy()
            for name, value in zip(self._settings.outputs, values, strict=True)
        }

    def _filled(self, count: int) -> int:
        """The size that a batch is filled up to."""
        if not self._settings.mode or self._settings.dynamic:
            return count
        return next((size for size in self._settings.batch_sizes if size >= count), count)
