"""Text to text: an encoder-decoder checkpoint (T5, BART, Marian ...)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM

from builder.checkpoint.files import CheckpointFiles
from builder.errors import CheckpointError, SpecError
from builder.render.model_config import ModelConfig, Tensor
from builder.runtime.models.seq2seq.rules import Rules
from builder.runtime.models.seq2seq.seq2seq_settings import Seq2SeqSettings
from builder.runtime.models.seq2seq.steps import CachedDecoder
from builder.spec.releases import OnnxLimits
from builder.spec.task import TaskSpec
from builder.tasks.generation import (
    answer_limits,
    answer_settings,
    end_tokens,
    generation_config,
    generation_of,
    on_device,
    refuse_keys,
)
from builder.tasks.samples import TEXTS
from builder.tasks.seq2seq import EncoderStates, decoder_parity, export_decoder, require_covered
from builder.tasks.task import Artifact, Description
from builder.tasks.text import ATTENTION_MASK, TextTask
from builder.verify.measure import ParityRow

OPTIONS = (
    Tensor("MAX_TOKENS", "INT32", (1,), optional=True),
    Tensor("TEMPERATURE", "FP32", (1,), optional=True),
    Tensor("TOP_P", "FP32", (1,), optional=True),
    Tensor("TOP_K", "INT32", (1,), optional=True),
    Tensor("SEED", "UINT64", (1,), optional=True),
    Tensor("REPETITION_PENALTY", "FP32", (1,), optional=True),
)
ANSWER = (
    # Not TEXT: in an ensemble one name is one tensor, and TEXT is what comes in.
    Tensor("GENERATED_TEXT", "STRING", (1,)),
    Tensor("TOKEN_IDS", "INT32", (-1,)),
    Tensor("FINISH_REASON", "STRING", (1,)),
    Tensor("COMPLETION_TOKENS", "INT32", (1,)),
)
ENGINE_KEYS = (
    "engine",
    "max_sequence_length",
    "precision",
    "weights",
    "weight_block_size",
    "slots",
    "max_waiting",
    "kv_cache_tokens",
    "prefill_chunk",
    "tolerance",
    "draft_tokens",
    "spinning",
    "kind",
    "vllm",
)
"""Keys of `generation` that belong to the engine of decoder-only models."""

# Rules of a generation config that change greedy answers and are not applied here.
_UNKNOWN_RULES = ("encoder_no_repeat_ngram_size", "exponential_decay_length_penalty")


def rules_of(files: CheckpointFiles, tokenizer: Any) -> Rules:
    """What the generation config of a checkpoint rules out or forces.

    Raises:
        CheckpointError: no start or no end, or a rule that is not applied here.
    """
    config = generation_config(files)

    def value(name: str) -> Any:
        found = config.get(name)
        return getattr(files.config, name, None) if found is None else found

    start = value("decoder_start_token_id")
    if start is None:
        raise CheckpointError(
            f"{files.source} has no decoder_start_token_id in its config: a decoder can't start"
        )
    for name in _UNKNOWN_RULES:
        if value(name):
            raise CheckpointError(f"{files.source} asks for {name}, which is not applied here")
    banned = [list(ids) for ids in value("bad_words_ids") or []]
    if any(len(ids) != 1 for ids in banned):
        raise CheckpointError(f"{files.source}: bad_words_ids of several tokens are not applied")
    return Rules(
        start=(int(start),),
        end=end_tokens(files, tokenizer),
        suppress=(*(value("suppress_tokens") or ()), *(ids[0] for ids in banned)),
        begin_suppress=tuple(value("begin_suppress_tokens") or ()),
        forced_bos=value("forced_bos_token_id"),
        forced_eos=value("forced_eos_token_id"),
        # Counts the start token in transformers.
        min_new_tokens=max(int(value("min_length") or 0) - 1, int(value("min_new_tokens") or 0)),
        no_repeat_ngram=int(value("no_repeat_ngram_size") or 0),
    )


class Text2Text(TextTask):
    """Tokenizer, encoder graph, and a stage that runs the decoder token by token."""

    auto_class = AutoModelForSeq2SeqLM
    raw_name = "encoder_hidden_states"
    per_token = True
    post_stage = "seq2seq"
    post_tokens = (ATTENTION_MASK,)
    post_tokenizer = True
    options = OPTIONS

    def __init__(self, spec: TaskSpec, files: CheckpointFiles) -> None:
        """Read the tokenizer and the rules of generation.

        Raises:
            CheckpointError: the checkpoint can't do the task.
            SpecError: the spec asks for more than it takes.
        """
        require_covered(files.source, files.config)
        refuse_keys(spec, *(f"generation.{key}" for key in ENGINE_KEYS))
        if spec.model.engine == "torch":
            raise SpecError(f"engine: torch can't run {spec.task}; use onnxruntime")
        super().__init__(spec, files)
        self.rules = rules_of(files, self.hf_tokenizer)
        self.settings = generation_of(spec)
        positions = getattr(files.config, "max_position_embeddings", None)
        self.limits = answer_limits(spec, positions, files.source)

    def raw_dims(self) -> tuple[int, ...]:
        """A state a token of the source."""
        return (-1, int(self.files.config.d_model))

    def answer(self) -> tuple[Tensor, ...]:
        """Text, its tokens, and how it ended."""
        return ANSWER

    def module(self, model: nn.Module) -> nn.Module:
        """The encoder."""
        return EncoderStates(model).eval()

    def post_settings(self) -> Seq2SeqSettings:
        """Limits and rules."""
        return answer_settings(self.limits, self.rules, self.pad_token_id, self.settings)

    def configs(self) -> list[ModelConfig]:
        """Every model config, the ensemble last."""
        return on_device(super().configs(), self._name("seq2seq"), self.spec)

    def describe(self) -> Description:
        """What `builder init` writes into a spec."""
        return replace(super().describe(), settings={"limits": self.limits})

    def artifacts(self) -> list[Artifact]:
        """The decoder, beside its stage."""
        return [Artifact(self._name("seq2seq"), self._export, self._verify)]

    def _export(self, folder: Path, limits: OnnxLimits) -> None:
        export_decoder(self.model, folder, limits, masked=True)

    def _verify(self, folder: Path) -> list[ParityRow]:
        model = self.model
        texts = [self.encoder().encoding(text).ids for text in TEXTS if text]
        with torch.inference_mode():
            states = [model.get_encoder()(torch.tensor([ids])).last_hidden_state for ids in texts]
        decoder = CachedDecoder(folder, self.settings.intra_op_thread_count)
        name = self._name("seq2seq")
        return decoder_parity(name, model, decoder, states, self.rules, self.spec.tolerance)
