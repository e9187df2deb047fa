"""What tasks over text share: tokenizer stage, encoder graph, ensemble."""

import errno
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from builder.errors import CheckpointError, SpecError
from builder.render.model_config import EnsembleStep, ModelConfig, Tensor
from builder.render.stages import ensemble, graph_stage, python_stage, same
from builder.runtime.models.tokenize.texts import TextEncoder
from builder.spec.task import TaskSpec
from builder.steps import VERSION
from builder.tasks.checkpoint import CheckpointFiles
from builder.tasks.kind import Description, Graph, Sample
from builder.tasks.samples import BATCHES, TEXTS, long_text

TEXT = Tensor("TEXT", "STRING", (1,))
INPUT_IDS = Tensor("input_ids", "INT64", (-1,))
ATTENTION_MASK = Tensor("attention_mask", "INT64", (-1,))
_SHORTEST_BUCKET = 16
_LONGEST_DEFAULT_BUCKET = 512


def default_buckets(max_tokens: int) -> list[int]:
    """Powers of two from 16 up to the longest text (at most 512 unless a spec says more)."""
    longest = min(max_tokens, _LONGEST_DEFAULT_BUCKET)
    buckets = [_SHORTEST_BUCKET]
    while buckets[-1] * 2 < longest:
        buckets.append(buckets[-1] * 2)
    return [bucket for bucket in buckets if bucket < longest] + [longest]


class EncoderModule(nn.Module):
    """`input_ids`, `attention_mask` int64 [B, S] -> what a `TextKind` serves."""

    def __init__(self, kind: "TextKind", model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.kind = kind

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """One tensor."""
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return self.kind.head(output, attention_mask)


class TextKind:
    """A task with one text a row and one encoder graph; subclasses say what it answers."""

    auto_class: ClassVar[Any]
    raw_name: ClassVar[str] = "logits"
    per_token: ClassVar[bool] = False
    """Whether the graph gives a row for every token; else for every text."""
    optional_weights: ClassVar[tuple[str, ...]] = ()
    post_stage: ClassVar[str | None] = None
    """Folder in `runtime/models` of the stage behind the graph; None: the graph's output is it."""

    def __init__(self, spec: TaskSpec, files: CheckpointFiles) -> None:
        """Read the tokenizer and what the task needs of the config.

        Raises:
            CheckpointError: the checkpoint can't do the task.
            SpecError: the spec asks for more than it takes.
        """
        self.spec = spec
        self.files = files
        self.hf_tokenizer = files.tokenizer()
        if self.hf_tokenizer.pad_token_id is None:
            raise CheckpointError(
                f"{files.source}: its tokenizer has no padding token, which batches of texts need"
            )
        self.pad_token_id = int(self.hf_tokenizer.pad_token_id)
        self.max_tokens = self._longest()
        self.buckets = spec.sequence_buckets or default_buckets(self.max_tokens)
        if self.buckets[-1] > self.max_tokens:
            raise SpecError(
                f"sequence_buckets: {self.buckets[-1]} is longer than the {self.max_tokens} tokens "
                f"that {files.source} takes"
            )

    # What a subclass may say.

    def _longest(self) -> int:
        return self.files.max_tokens(self.hf_tokenizer) or _LONGEST_DEFAULT_BUCKET

    def raw_dims(self) -> tuple[int, ...]:
        """Dims of the graph's output, without the batch dim."""
        raise NotImplementedError

    def answer(self) -> tuple[Tensor, ...]:
        """The ensemble's outputs."""
        raise NotImplementedError

    def post_parameters(self) -> Mapping[str, str]:
        """Parameters of the stage behind the graph."""
        return {}

    def head(self, output: Any, attention_mask: torch.Tensor) -> Any:
        """The served tensor of a model's output."""
        return output.logits

    # What the build asks.

    @property
    def source(self) -> str:
        """The checkpoint: a local folder or a hub id."""
        return self.files.source

    @property
    def raw(self) -> Tensor:
        """The graph's output."""
        return Tensor(self.raw_name, "FP32", self.raw_dims())

    def describe(self) -> Description:
        """What `builder init` writes into a spec."""
        return Description(
            architecture=", ".join(self.files.architectures) or self.files.config.model_type,
            inputs=(TEXT,),
            outputs=self.answer(),
            graph_inputs=(INPUT_IDS, ATTENTION_MASK),
            graph_outputs=(self.raw,),
            buckets=tuple(self.buckets),
        )

    def _name(self, stage: str) -> str:
        return f"{self.spec.name}_{stage}"

    def stages(self) -> dict[str, str]:
        """Name of a Python model -> folder of its sources."""
        stages = {self._name("tokenize"): "tokenize"}
        if self.post_stage:
            stages[self._name(self.post_stage)] = self.post_stage
        return stages

    def requirements(self) -> list[str]:
        """What the Python stages import."""
        runtime = "onnxruntime" if self.spec.target == "cpu" else "onnxruntime-gpu"
        return ["numpy>=1.26,<2", f"{runtime}>=1.20", "tokenizers>=0.20"]

    def configs(self) -> list[ModelConfig]:
        """Every model config, the ensemble last."""
        spec, batch = self.spec, self.spec.model.max_batch_size
        tokens = (INPUT_IDS, ATTENTION_MASK)
        models = [
            python_stage(
                self._name("tokenize"),
                batch,
                (TEXT,),
                tokens,
                count=spec.tokenizers,
                parameters={
                    "long_text": spec.long_text,
                    "pad_token_id": str(self.pad_token_id),
                    "sequence_buckets": ",".join(str(bucket) for bucket in self.buckets),
                },
            ),
            graph_stage(spec, self._name("model"), tokens, (self.raw,), (self.buckets[0],)),
        ]
        steps = [
            EnsembleStep(self._name("tokenize"), same(TEXT), same(*tokens)),
            EnsembleStep(self._name("model"), same(*tokens), same(self.raw)),
        ]
        if self.post_stage:
            name = self._name(self.post_stage)
            models.append(
                python_stage(
                    name, batch, (self.raw,), self.answer(), parameters=self.post_parameters()
                )
            )
            steps.append(EnsembleStep(name, same(self.raw), same(*self.answer())))
        else:
            steps[-1] = EnsembleStep(
                self._name("model"), same(*tokens), {self.raw_name: self.answer()[0].name}
            )
        return [*models, ensemble(spec.name, batch, (TEXT,), self.answer(), steps)]

    def write_files(self, folder: Path) -> None:
        """The tokenizer."""
        path = folder / self._name("tokenize") / VERSION / "tokenizer.json"
        save_tokenizer(self.hf_tokenizer, path)

    def graphs(self) -> list[Graph]:
        """The encoder."""
        model = self.files.load(self.auto_class, self.spec.task, self.optional_weights)
        module = EncoderModule(self, model).eval()
        axes = {0: "batch", 1: "sequence"}
        ids = torch.randint(1, 100, (2, 9), generator=torch.Generator().manual_seed(0))
        return [
            Graph(
                name=self._name("model"),
                module=module,
                inputs=(INPUT_IDS, ATTENTION_MASK),
                outputs=(self.raw,),
                axes={"input_ids": axes, "attention_mask": axes},
                example={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
                samples=lambda: self._samples(module),
            )
        ]

    def encoder(self) -> TextEncoder:
        """The tokenizer stage's own encoder; cuts long texts."""
        return TextEncoder(
            Tokenizer.from_str(self.hf_tokenizer.backend_tokenizer.to_str()),
            self.buckets,
            self.pad_token_id,
            truncate=True,
        )

    def _samples(self, module: nn.Module) -> Iterator[Sample]:
        encoder = self.encoder()
        batches = ([TEXTS[place] for place in places] for places in BATCHES)
        for texts in chain(batches, [[long_text(self.buckets[-1]), TEXTS[0]]]):
            ids, mask = encoder.encode(texts)
            wanted = []
            for text in texts:
                row = torch.tensor([encoder.ids(text)])
                with torch.inference_mode():
                    wanted.append(module(row, torch.ones_like(row)).numpy())
            yield self._sample(ids, mask, wanted)

    def _sample(self, ids: Any, mask: Any, rows: list[Any]) -> Sample:
        inputs = {"input_ids": ids, "attention_mask": mask}
        if not self.per_token:
            return Sample(inputs, {self.raw_name: np.concatenate(rows)})
        padded = [np.pad(r, ((0, 0), (0, ids.shape[1] - r.shape[1]), (0, 0))) for r in rows]
        return Sample(
            inputs, {self.raw_name: np.concatenate(padded)}, {self.raw_name: mask.astype(bool)}
        )


def save_tokenizer(tokenizer: Any, path: Path) -> None:
    """Write a fast tokenizer's `tokenizer.json`; a full disk is an OSError, as elsewhere."""
    try:
        tokenizer.backend_tokenizer.save(str(path))
    except Exception as error:  # tokenizers raises no OSError
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, "No space left on device", str(path)) from error
        raise
