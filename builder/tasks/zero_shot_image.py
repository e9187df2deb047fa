"""CLIP: a picture against labels that the request brings."""

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel

from builder.checkpoint.files import CheckpointFiles
from builder.errors import CheckpointError
from builder.recipe import VERSION
from builder.render.model_config import EnsembleStep, ModelConfig, Tensor
from builder.runtime.models.match.match_settings import MatchSettings
from builder.runtime.models.tokenize.texts import TextEncoder
from builder.spec.answers import ZeroShot
from builder.spec.task import TaskSpec
from builder.targets import runtime_requirements
from builder.tasks.configs import ensemble, graph_stage, python_stage, same
from builder.tasks.pictures import IMAGE, Colours, read_preparation
from builder.tasks.samples import BATCHES, TEXTS, long_text
from builder.tasks.task import Description, Graph, Sample
from builder.tasks.text import (
    ATTENTION_MASK,
    INPUT_IDS,
    buckets_of,
    own_tokenizer,
    padding_token,
    save_tokenizer,
)

LABELS = Tensor("LABELS", "STRING", (-1,))
TEMPLATE = Tensor("TEMPLATE", "STRING", (1,), optional=True)
SCORES = Tensor("SCORES", "FP32", (-1,))
TOKENS = (INPUT_IDS, ATTENTION_MASK)


def _unit(output: Any) -> torch.Tensor:
    """Vectors of length 1; an output of transformers 5 holds them as `pooler_output`."""
    vectors = output if isinstance(output, torch.Tensor) else output.pooler_output
    return nn.functional.normalize(vectors, dim=-1)


class PictureModule(nn.Module):
    """Pixels uint8 [B, H, W, 3] -> vectors of length 1, fp32 [B, D]."""

    def __init__(self, colours: nn.Module, model: Any) -> None:
        super().__init__()
        self.colours = colours
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vectors of pictures."""
        return _unit(self.model.get_image_features(pixel_values=self.colours(pixels)))


class TextModule(nn.Module):
    """Ids int64 [B, S] -> vectors of length 1, fp32 [B, D]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Vectors of texts."""
        features = self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask)
        return _unit(features)


class ZeroShotImage:
    """Any `CLIPModel`: two graphs, of pictures and of texts, and a stage that compares."""

    def __init__(self, spec: TaskSpec, files: CheckpointFiles) -> None:
        """Read image processor and tokenizer.

        Raises:
            CheckpointError: the checkpoint can't do the task.
            SpecError: the spec asks for longer texts than it takes.
        """
        self.spec = spec
        self.files = files
        self.options = spec.zero_shot or ZeroShot()
        if files.config.model_type != "clip":
            raise CheckpointError(
                f"{files.source} is a '{files.config.model_type}' model; {spec.task} can be built "
                "from clip"
            )
        self.preparation = read_preparation(files)
        self.tokenizer = files.tokenizer()
        self.pad_token_id = padding_token(self.tokenizer, files.config, files.source)
        longest = int(files.config.text_config.max_position_embeddings)
        self.buckets = buckets_of(spec, longest, files.source)
        dims = (int(files.config.projection_dim),)
        self.image_embeds = Tensor("image_embeds", "FP32", dims)
        self.text_embeds = Tensor("text_embeds", "FP32", dims)

    def _name(self, stage: str) -> str:
        return f"{self.spec.name}_{stage}"

    @cached_property
    def model(self) -> Any:
        """The weights."""
        return self.files.load(AutoModel, self.spec.task)

    def describe(self) -> Description:
        """What `builder init` writes into a spec."""
        return Description(
            architecture=", ".join(self.files.architectures),
            inputs=(IMAGE, LABELS, TEMPLATE),
            outputs=(SCORES,),
            graph_inputs=(self.preparation.pixels,),
            graph_outputs=(self.image_embeds,),
            buckets=tuple(self.buckets),
        )

    def stages(self) -> dict[str, str]:
        """Name of a Python model -> folder of its sources."""
        return {self._name("pixels"): "pixels", self._name("match"): "match"}

    def requirements(self) -> list[str]:
        """What the Python stages import."""
        return runtime_requirements(self.spec.target, "pillow>=12", "tokenizers>=0.20")

    def configs(self) -> list[ModelConfig]:
        """Every model config, the ensemble last; the text model comes before its caller."""
        spec, batch = self.spec, self.spec.model.max_batch_size
        pixels, asked = self.preparation.pixels, (LABELS, TEMPLATE)
        names = {s: self._name(s) for s in ("pixels", "image_model", "text_model", "match")}
        return [
            python_stage(
                names["pixels"],
                batch,
                (IMAGE,),
                (pixels,),
                settings=self.preparation.settings(spec.max_image_pixels),
            ),
            graph_stage(spec, names["image_model"], (pixels,), (self.image_embeds,)),
            graph_stage(spec, names["text_model"], TOKENS, (self.text_embeds,), (self.buckets[0],)),
            python_stage(
                names["match"],
                batch,
                (self.image_embeds, *asked),
                (SCORES,),
                settings=MatchSettings(
                    long_text=spec.long_text,
                    pad_token_id=self.pad_token_id,
                    sequence_buckets=tuple(self.buckets),
                    cached_labels=self.options.cached_labels,
                    template=self.options.template,
                    text_batch=batch,
                    text_model=names["text_model"],
                ),
            ),
            ensemble(
                spec.name,
                batch,
                (IMAGE, *asked),
                (SCORES,),
                [
                    EnsembleStep(names["pixels"], same(IMAGE), same(pixels)),
                    EnsembleStep(names["image_model"], same(pixels), same(self.image_embeds)),
                    EnsembleStep(names["match"], same(self.image_embeds, *asked), same(SCORES)),
                ],
            ),
        ]

    def write_files(self, folder: Path) -> None:
        """The tokenizer, and what cosines are multiplied with."""
        stage = folder / self._name("match") / VERSION
        save_tokenizer(self.tokenizer, stage / "tokenizer.json")
        found = self.files.weight("logit_scale")
        scale = float((self.model.logit_scale if found is None else found).exp())
        (stage / "scale.json").write_text(json.dumps({"logit_scale": scale}) + "\n")

    def graphs(self) -> list[Graph]:
        """Pictures and texts."""
        pixels = self.preparation.pixels
        random = torch.Generator().manual_seed(0)
        example = torch.randint(0, 256, (2, *pixels.dims), generator=random, dtype=torch.uint8)
        ids = torch.randint(1, 100, (2, 9), generator=random)
        ids[:, -1] = int(self.files.config.text_config.eos_token_id)
        text, axes = TextModule(self.model).eval(), {0: "batch", 1: "sequence"}
        return [
            Graph(
                name=self._name("image_model"),
                module=PictureModule(Colours(self.preparation), self.model).eval(),
                inputs=(pixels,),
                outputs=(self.image_embeds,),
                axes={"pixels": {0: "batch"}},
                example={"pixels": example},
                samples=self._pictures,
            ),
            Graph(
                name=self._name("text_model"),
                module=text,
                inputs=TOKENS,
                outputs=(self.text_embeds,),
                axes={tensor.name: axes for tensor in TOKENS},
                example={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
                samples=lambda: self._texts(text),
            ),
        ]

    def _pictures(self) -> Iterable[Sample]:
        for pixels, values in self.preparation.batches():
            with torch.inference_mode():
                rows = [_unit(self.model.get_image_features(pixel_values=v)) for v in values]
            yield Sample({"pixels": pixels}, {"image_embeds": torch.cat(rows).numpy()})

    def encoder(self) -> TextEncoder:
        """The stage's own encoder; cuts long texts."""
        tokenizer = own_tokenizer(self.tokenizer)
        return TextEncoder(tokenizer, self.buckets, self.pad_token_id, truncate=True)

    def _texts(self, module: nn.Module) -> Iterable[Sample]:
        encoder = self.encoder()
        batches = [[TEXTS[place] for place in places] for places in BATCHES]
        for texts in [*batches, [long_text(self.buckets[-1]), TEXTS[0]]]:
            found = encoder.tensors(texts)
            rows = []
            for text in texts:
                row = torch.tensor([encoder.encoding(text).ids])
                with torch.inference_mode():
                    rows.append(module(row, torch.ones_like(row)))
            inputs = {name: found[name] for name in ("input_ids", "attention_mask")}
            yield Sample(inputs, {"text_embeds": torch.cat(rows).numpy()})
