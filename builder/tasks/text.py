"""What tasks over text share: tokenizer stage, encoder graph, ensemble."""

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from builder.checkpoint.files import CheckpointFiles
from builder.errors import CheckpointError, SpecError
from builder.recipe import VERSION
from builder.render.model_config import EnsembleStep, ModelConfig, Tensor
from builder.runtime.models.common.settings import Settings
from builder.runtime.models.join.join_settings import JoinSettings
from builder.runtime.models.tokenize.texts import TextEncoder
from builder.runtime.models.tokenize.tokenize_settings import TokenizeSettings
from builder.runtime.models.torch_model.heads import served_module
from builder.spec.task import TaskSpec
from builder.targets import runtime_requirements
from builder.tasks.configs import ensemble, graph_stage, python_stage, same
from builder.tasks.samples import BATCHES, TEXTS, long_text
from builder.tasks.task import Description, Graph, Origin, Sample

TEXT = Tensor("TEXT", "STRING", (1,))
TEXT_PAIR = Tensor("TEXT_PAIR", "STRING", (1,), optional=True)
INPUT_IDS = Tensor("input_ids", "INT64", (-1,))
ATTENTION_MASK = Tensor("attention_mask", "INT64", (-1,))
TOKEN_TYPE_IDS = Tensor("token_type_ids", "INT64", (-1,))
OFFSETS = Tensor("offsets", "INT32", (-1, 2))
_SHORTEST_BUCKET = 16
_LONGEST_DEFAULT_BUCKET = 512
_BATCH_TOKENS = 16
"""What one more batch costs the stage that joins texts, in tokens (docs/tasks.md)."""

Row = tuple[str, str | None]
"""A text and its pair."""


def default_buckets(max_tokens: int, longest: int = _LONGEST_DEFAULT_BUCKET) -> list[int]:
    """Powers of two from 16 up to the longest text (at most 512 unless a spec says more)."""
    longest = min(max_tokens, longest)
    buckets = [_SHORTEST_BUCKET]
    while buckets[-1] * 2 < longest:
        buckets.append(buckets[-1] * 2)
    return [bucket for bucket in buckets if bucket < longest] + [longest]


def buckets_of(
    spec: TaskSpec, max_tokens: int, source: str, longest: int = _LONGEST_DEFAULT_BUCKET
) -> list[int]:
    """The spec's buckets, or the default ones.

    Args:
        spec: The spec.
        max_tokens: The longest text that the checkpoint takes.
        source: The checkpoint, for the error.
        longest: The last default bucket is no longer.

    Raises:
        SpecError: the spec asks for longer texts than the checkpoint takes.
    """
    buckets = spec.sequence_buckets or default_buckets(max_tokens, longest)
    if buckets[-1] > max_tokens:
        raise SpecError(
            f"sequence_buckets: {buckets[-1]} is longer than the {max_tokens} tokens that "
            f"{source} takes"
        )
    return buckets


def padding_token(tokenizer: Any, config: Any, source: str) -> int:
    """Id of the padding token, by the tokenizer or, where that names none, the config.

    Raises:
        CheckpointError: there is none.
    """
    known = tokenizer.pad_token_id
    if known is None:
        known = config.get_text_config().pad_token_id
    if known is None:
        raise CheckpointError(
            f"{source}: neither its tokenizer nor its config has a padding token, which batches of "
            "texts need"
        )
    return int(known)


def own_tokenizer(tokenizer: Any) -> Tokenizer:
    """A copy of a fast tokenizer's `tokenizers.Tokenizer`."""
    return Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())


class TextTask:
    """A task with one text a row and one encoder graph; subclasses say what it answers."""

    auto_class: ClassVar[Any]
    hub_task: ClassVar[str | None] = None
    """transformers' name of the task of the model without our head; None: the spec's."""
    head: str = "logits"
    """What of the model's output is served: a key of `torch_model.heads.HEADS`."""
    inputs: ClassVar[tuple[Tensor, ...]] = (TEXT,)
    """The ensemble's inputs, all of them read by the tokenizer stage."""
    options: ClassVar[tuple[Tensor, ...]] = ()
    """Further inputs, read by the stage behind the graph alone."""
    raw_name: ClassVar[str] = "logits"
    per_token: ClassVar[bool] = False
    """Whether the graph gives a row for every token; else for every text."""
    optional_weights: ClassVar[tuple[str, ...]] = ()
    post_stage: ClassVar[str | None] = None
    """Folder in `runtime/models` of the stage behind the graph; None: the graph's output is it."""
    post_tokens: ClassVar[tuple[Tensor, ...]] = ()
    """What the stage behind the graph gets of the tokenizer stage."""
    post_texts: ClassVar[tuple[Tensor, ...]] = ()
    """What it gets of the ensemble's inputs."""
    post_tokenizer: ClassVar[bool] = False
    """Whether the stage behind the graph needs the tokenizer."""
    longest_bucket: ClassVar[int] = _LONGEST_DEFAULT_BUCKET

    def __init__(self, spec: TaskSpec, files: CheckpointFiles) -> None:
        """Read the tokenizer and what the task needs of the config.

        Raises:
            CheckpointError: the checkpoint can't do the task.
            SpecError: the spec asks for more than it takes.
        """
        self.spec = spec
        self.files = files
        self.hf_tokenizer = files.tokenizer()
        self.pad_token_id = padding_token(self.hf_tokenizer, files.config, files.source)
        self.max_tokens = self._longest()
        self.buckets = buckets_of(spec, self.max_tokens, files.source, self.longest_bucket)
        self.tokens = self._tokens()

    # What a subclass may say.

    def _longest(self) -> int:
        return self.files.max_tokens(self.hf_tokenizer) or _LONGEST_DEFAULT_BUCKET

    def raw_dims(self) -> tuple[int, ...]:
        """Dims of the graph's output, without the batch dim."""
        raise NotImplementedError

    def answer(self) -> tuple[Tensor, ...]:
        """The ensemble's outputs."""
        raise NotImplementedError

    def post_settings(self) -> Settings | None:
        """Settings of the stage behind the graph; None: it has none."""
        return None

    def tokenize_settings(self) -> TokenizeSettings:
        """Settings of the tokenizer stage."""
        return TokenizeSettings(self.spec.long_text, self.pad_token_id, tuple(self.buckets))

    def head_parameters(self) -> Mapping[str, Any]:
        """Arguments of the head."""
        return {}

    def module(self, model: nn.Module) -> nn.Module:
        """What is exported, and what the torch engine runs."""
        return served_module(model, self.head, self.head_parameters()).eval()

    # What the build asks.

    @property
    def raws(self) -> tuple[Tensor, ...]:
        """The graph's outputs."""
        return (Tensor(self.raw_name, "FP32", self.raw_dims()),)

    def _tokens(self) -> tuple[Tensor, ...]:
        """The graph's inputs; token types only where there may be two texts to tell apart."""
        types = (
            len(self.inputs) > 1
            and "token_type_ids" in self.hf_tokenizer.model_input_names
            and (getattr(self.files.config, "type_vocab_size", 0) or 0) > 1
        )
        return (INPUT_IDS, ATTENTION_MASK, *((TOKEN_TYPE_IDS,) if types else ()))

    def describe(self) -> Description:
        """What `builder init` writes into a spec."""
        return Description(
            architecture=", ".join(self.files.architectures) or self.files.config.model_type,
            inputs=(*self.inputs, *self.options),
            outputs=self.answer(),
            graph_inputs=self.tokens,
            graph_outputs=self.raws,
            buckets=tuple(self.buckets),
        )

    def _name(self, stage: str) -> str:
        return f"{self.spec.name}_{stage}"

    def _first_stage(self) -> str:
        return "join" if self.spec.join_lengths else "tokenize"

    def stages(self) -> dict[str, str]:
        """Name of a Python model -> folder of its sources."""
        first = self._first_stage()
        stages = {self._name(first): first}
        if self.post_stage:
            stages[self._name(self.post_stage)] = self.post_stage
        return stages

    def requirements(self) -> list[str]:
        """What the Python stages import."""
        return runtime_requirements(self.spec.target, "tokenizers>=0.20")

    def configs(self) -> list[ModelConfig]:
        """Every model config, the ensemble last."""
        spec, batch = self.spec, self.spec.model.max_batch_size
        made = (*self.tokens, *(t for t in self.post_tokens if t not in self.tokens))
        graph = graph_stage(spec, self._name("model"), self.tokens, self.raws, self._warmup_dims())
        joined = bool(spec.join_lengths)
        first = python_stage(
            self._name(self._first_stage()),
            batch,
            self.inputs,
            self.raws if joined else made,
            count=spec.tokenizers,
            settings=self._join_settings() if joined else self.tokenize_settings(),
        )
        models = [first, graph]
        steps = [EnsembleStep(first.name, same(*first.inputs), same(*first.outputs))]
        if not joined:
            steps.append(EnsembleStep(graph.name, same(*self.tokens), same(*self.raws)))
        if self.post_stage:
            name, read = self._name(self.post_stage), (*self.raws, *self.post_tokens)
            read = (*read, *self.post_texts, *self.options)
            models.append(
                python_stage(name, batch, read, self.answer(), settings=self.post_settings())
            )
            steps.append(EnsembleStep(name, same(*read), same(*self.answer())))
        else:
            last = steps.pop()
            answer = {self.raw_name: self.answer()[0].name}
            steps.append(EnsembleStep(last.model_name, last.input_map, answer))
        read = (*self.inputs, *self.options)
        return [*models, ensemble(spec.name, batch, read, self.answer(), steps)]

    def _join_settings(self) -> JoinSettings:
        return JoinSettings(
            **vars(self.tokenize_settings()),
            batch_tokens=_BATCH_TOKENS,
            model=self._name("model"),
            model_version=int(VERSION),
            model_inputs=tuple(tensor.name for tensor in self.tokens),
            model_max_batch_size=self.spec.model.max_batch_size,
            model_outputs=tuple(tensor.name for tensor in self.raws),
        )

    def _warmup_dims(self) -> tuple[int, ...]:
        return (self.buckets[0],)

    def write_files(self, folder: Path) -> None:
        """The tokenizer."""
        stages = [self._first_stage()]
        if self.post_stage and self.post_tokenizer:
            stages.append(self.post_stage)
        for stage in stages:
            path = folder / self._name(stage) / VERSION / "tokenizer.json"
            save_tokenizer(self.hf_tokenizer, path)

    @cached_property
    def model(self) -> Any:
        """The weights; classifiers look for the padding token that their config names."""
        model = self.files.load(self.auto_class, self.spec.task, self.optional_weights)
        for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
            if config.pad_token_id is None:
                config.pad_token_id = self.pad_token_id
        return model

    def graphs(self) -> list[Graph]:
        """The encoder."""
        module = self.module(self.model)
        names = [tensor.name for tensor in self.tokens]
        return [
            Graph(
                name=self._name("model"),
                module=module,
                inputs=self.tokens,
                outputs=self.raws,
                axes={name: self.axes() for name in names},
                example=self.example(),
                samples=lambda: self.samples(module),
                origin=Origin(self.files.folder(), self.hub_task or self.spec.task),
            )
        ]

    def axes(self) -> dict[int, str]:
        """Dims that vary, of every input of the graph."""
        return {0: "batch", 1: "sequence"}

    def example(self) -> dict[str, torch.Tensor]:
        """Inputs that the graph is traced with."""
        ids = torch.randint(1, 100, (2, 9), generator=torch.Generator().manual_seed(0))
        values = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": torch.zeros_like(ids),
        }
        return {tensor.name: values[tensor.name] for tensor in self.tokens}

    def encoder(self) -> TextEncoder:
        """The tokenizer stage's own encoder; cuts long texts."""
        tokenizer = own_tokenizer(self.hf_tokenizer)
        return TextEncoder(tokenizer, self.buckets, self.pad_token_id, truncate=True)

    def batches(self) -> Iterator[Sequence[Row]]:
        """Texts that the graph is verified with, a batch at a time."""
        for places in BATCHES:
            yield [(TEXTS[place], None) for place in places]
        yield [(long_text(self.buckets[-1]), None), (TEXTS[0], None)]
        if len(self.inputs) > 1:
            yield [(TEXTS[0], TEXTS[2]), (TEXTS[5], TEXTS[6]), (TEXTS[3], None)]

    def samples(self, module: nn.Module) -> Iterable[Sample]:
        """Padded batches, and what the checkpoint says of each row without padding."""
        encoder = self.encoder()
        names = [tensor.name for tensor in self.tokens]
        for batch in self.batches():
            rows = [encoder.encoding(*row) for row in batch]
            found = encoder.pad(rows)
            wanted = []
            for row in rows:
                values = {
                    "input_ids": torch.tensor([row.ids]),
                    "attention_mask": torch.ones(1, len(row.ids), dtype=torch.int64),
                    "token_type_ids": torch.tensor([row.type_ids]),
                }
                with torch.inference_mode():
                    output = module(**{name: values[name] for name in names})
                outputs = output if isinstance(output, tuple) else (output,)
                wanted.append([value.numpy() for value in outputs])
            yield self._sample({name: found[name] for name in names}, wanted)

    def _sample(self, inputs: dict[str, Any], rows: list[list[Any]]) -> Sample:
        wanted: dict[str, Any] = {}
        valid: dict[str, Any] = {}
        mask = inputs["attention_mask"]
        for place, tensor in enumerate(self.raws):
            values = [row[place] for row in rows]
            if self.per_token:
                valid[tensor.name] = mask.astype(bool)
                values = [_widened(value, mask.shape[1]) for value in values]
            wanted[tensor.name] = np.concatenate(values)
        return Sample(inputs, wanted, valid)


def _widened(value: Any, width: int) -> Any:
    """Zeros behind a text's own tokens: [1, S, ...] -> [1, width, ...]."""
    rest = [(0, 0)] * (value.ndim - 2)
    return np.pad(value, ((0, 0), (0, width - value.shape[1]), *rest))


def save_tokenizer(tokenizer: Any, path: Path) -> None:
    """Write a fast tokenizer's `tokenizer.json`; a full disk is an OSError, as elsewhere."""
    try:
        tokenizer.backend_tokenizer.save(str(path))
    except Exception as error:  # tokenizers raises no OSError
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, "No space left on device", str(path)) from error
        raise
