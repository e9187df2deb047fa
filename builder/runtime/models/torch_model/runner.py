"""A checkpoint on torch: attention, compiling, and the shapes that are compiled for.

https://docs.pytorch.org/docs/stable/generated/torch.compile.html
"""

import locale
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch._inductor.config
import transformers
from numpy.typing import NDArray

from .heads import served_module
from .torch_settings import TorchSettings

Arrays = Mapping[str, NDArray[Any]]

_SHAPES = 1024
"""Most shapes that are compiled for."""


class TorchRunner:
    """A loaded checkpoint, for one request at a time."""

    def __init__(
        self, folder: Path, settings: TorchSettings, outputs: Sequence[str], device: str = "cpu"
    ) -> None:
        """Load the weights, from safetensors only.

        Args:
            folder: Holds `config.json` and `model.safetensors`.
            settings: How it is run.
            outputs: Names of the served tensors, in the head's order.
            device: A torch device.
        """
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self._outputs = outputs
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
        if settings.compile_mode:
            # Triton's stub starts Python in the C locale; inductor's own templates are UTF-8.
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
            # By default torch gives a function up that was compiled for eight shapes.
            torch._dynamo.config.recompile_limit = _SHAPES
            # As options too: what is compiled for one runner is not taken for another that
            # differs in nothing else.
            options = torch._inductor.list_mode_options(settings.compile_mode, settings.dynamic)
            options["freezing"] = settings.freeze
            self._module = torch.compile(module, dynamic=settings.dynamic, options=options)
        self._warm = not settings.compile_mode

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
            for name, value in zip(self._outputs, values, strict=True)
        }

    def _filled(self, count: int) -> int:
        """The size that a batch is filled up to."""
        if not self._settings.compile_mode or self._settings.dynamic:
            return count
        return next((size for size in self._settings.warmup_batch_sizes if size >= count), count)
