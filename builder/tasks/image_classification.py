"""Image classifiers: labels and scores of a picture."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForImageClassification

from builder.checkpoint.files import CheckpointFiles
from builder.render.model_config import EnsembleStep, ModelConfig, Tensor
from builder.spec.task import TaskSpec
from builder.targets import runtime_requirements
from builder.tasks.configs import ensemble, graph_stage, python_stage, same
from builder.tasks.pictures import IMAGE, Colours, read_preparation
from builder.tasks.task import Description, Graph, Origin, Sample
from builder.tasks.text_classification import classify_answer, classify_settings

_TOP_K = 5


class ImageModule(nn.Module):
    """Pixels uint8 [B, H, W, 3] -> logits fp32 [B, labels]."""

    def __init__(self, colours: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.colours = colours
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.model(pixel_values=self.colours(pixels)).logits
        return logits


class ImageClassification:
    """Any `...ForImageClassification`."""

    def __init__(self, spec: TaskSpec, files: CheckpointFiles) -> None:
        """Read the image processor.

        Raises:
            CheckpointError: pictures can't be prepared as it does.
        """
        self.spec = spec
        self.files = files
        self.preparation = read_preparation(files)
        self.raw = Tensor("logits", "FP32", (int(files.config.num_labels),))
        self.answer = classify_answer(files.config, self._top_k())

    def _top_k(self) -> int:
        return min(self.spec.top_k or _TOP_K, int(self.files.config.num_labels))

    def _name(self, stage: str) -> str:
        return f"{self.spec.name}_{stage}"

    def describe(self) -> Description:
        """What `builder init` writes into a spec."""
        return Description(
            architecture=", ".join(self.files.architectures),
            inputs=(IMAGE,),
            outputs=self.answer,
            graph_inputs=(self.preparation.pixels,),
            graph_outputs=(self.raw,),
        )

    def stages(self) -> dict[str, str]:
        """Name of a Python model -> folder of its sources."""
        return {self._name("pixels"): "pixels", self._name("classify"): "classify"}

    def requirements(self) -> list[str]:
        """What the Python stages import."""
        return runtime_requirements(self.spec.target, "pillow>=12")

    def configs(self) -> list[ModelConfig]:
        """Every model config, the ensemble last."""
        spec, batch = self.spec, self.spec.model.max_batch_size
        pixels, names = self.preparation.pixels, [self._name(s) for s in ("pixels", "model")]
        classify = self._name("classify")
        return [
            python_stage(
                names[0],
                batch,
                (IMAGE,),
                (pixels,),
                settings=self.preparation.settings(spec.max_image_pixels),
            ),
            graph_stage(spec, names[1], (pixels,), (self.raw,)),
            python_stage(
                classify,
                batch,
                (self.raw,),
                self.answer,
                settings=classify_settings(self.files.config, self._top_k()),
            ),
            ensemble(
                spec.name,
                batch,
                (IMAGE,),
                self.answer,
                [
                    EnsembleStep(names[0], same(IMAGE), same(pixels)),
                    EnsembleStep(names[1], same(pixels), same(self.raw)),
                    EnsembleStep(classify, same(self.raw), same(*self.answer)),
                ],
            ),
        ]

    def write_files(self, folder: Path) -> None:
        """Nothing but what the configs say."""

    def graphs(self) -> list[Graph]:
        """The classifier."""
        model = self.files.load(AutoModelForImageClassification, self.spec.task)
        pixels = self.preparation.pixels
        random = torch.Generator().manual_seed(0)
        example = torch.randint(0, 256, (2, *pixels.dims), generator=random, dtype=torch.uint8)
        return [
            Graph(
                name=self._name("model"),
                module=ImageModule(Colours(self.preparation), model).eval(),
                inputs=(pixels,),
                outputs=(self.raw,),
                axes={"pixels": {0: "batch"}},
                example={"pixels": example},
                samples=lambda: self._samples(model),
                origin=Origin(self.files.folder(), self.spec.task),
            )
        ]

    def _samples(self, model: nn.Module) -> Iterable[Sample]:
        for pixels, values in self.preparation.batches():
            with torch.inference_mode():
                logits = torch.cat([model(pixel_values=value).logits for value in values])
            yield Sample({"pixels": pixels}, {"logits": logits.numpy()})
