"""What tasks that generate text share: end tokens, limits, requirements."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from builder.checkpoint.files import CheckpointFiles
from builder.errors import CheckpointError, SpecError
from builder.render.model_config import InstanceGroup, ModelConfig
from builder.render.settings import device
from builder.runtime.models.seq2seq.rules import Rules
from builder.runtime.models.seq2seq.seq2seq_settings import Seq2SeqSettings
from builder.spec.generation import Generation
from builder.spec.models import Tolerance, Verify
from builder.spec.task import TaskSpec

_LONGEST_DEFAULT = 1024


@dataclass(frozen=True)
class Limits:
    """Lengths in tokens, as a checkpoint allows and a spec asks them.

    Attributes:
        sequence: Prompt and answer together.
        answer: Longest answer.
        default_answer: Longest answer of a request that does not say.
    """

    sequence: int
    answer: int
    default_answer: int

    @classmethod
    def of(cls, generation: Generation, positions: int | None, source: str) -> "Limits":
        """Fit the spec into the checkpoint's positions.

        Args:
            generation: What the spec says.
            positions: Most tokens that the checkpoint takes; None: no bound.
            source: The checkpoint, for the error.

        Raises:
            SpecError: a number that the spec gives does not fit.
        """
        asked = generation.max_sequence_length
        if asked is not None and positions is not None and asked > positions:
            raise SpecError(
                f"generation.max_sequence_length: {asked} is beyond the {positions} positions of "
                f"{source}"
            )
        sequence = asked or min(positions or _LONGEST_DEFAULT, _LONGEST_DEFAULT)
        answer = generation.max_tokens
        if answer >= sequence:
            if "max_tokens" in generation.model_fields_set:
                raise SpecError(
                    f"generation.max_tokens: {answer} leaves no room for a prompt in "
                    f"{sequence} tokens"
                )
            answer = max(sequence // 2, 1)
        return cls(sequence, answer, min(generation.default_max_tokens, answer))


def generation_of(spec: TaskSpec) -> Generation:
    """What the spec says of generation, or the defaults."""
    return spec.generation or Generation()


def refuse_keys(spec: TaskSpec, *keys: str) -> None:
    """Refuse keys that a task would not look at.

    Raises:
        SpecError: the spec has one of them.
    """
    for key in keys:
        holder: Any = spec
        for part in key.split("."):
            if holder is None or part not in holder.model_fields_set:
                break
            holder = getattr(holder, part)
        else:
            raise SpecError(f"{key} has no meaning for {spec.task}; take it out")


def on_device(configs: Sequence[ModelConfig], name: str, spec: TaskSpec) -> list[ModelConfig]:
    """Configs with one stage moved to where the spec's graphs run: a decoder is a graph too."""
    groups = (InstanceGroup(1, device("auto", spec.target)),)
    return [replace(c, instance_group=groups) if c.name == name else c for c in configs]


def answer_limits(spec: TaskSpec, positions: int | None, source: str) -> tuple[int, int]:
    """Longest answer, and that of a request that does not say, of a decoder of its own.

    Args:
        spec: The spec.
        positions: Most tokens of an answer; None: no bound.
        source: The checkpoint, for the error.

    Raises:
        SpecError: the spec asks for more.
    """
    settings = generation_of(spec)
    answer = settings.max_tokens
    if positions is not None and answer > positions:
        if "max_tokens" in settings.model_fields_set:
            raise SpecError(
                f"generation.max_tokens: {answer} is beyond the {positions} positions that "
                f"{source} has for an answer"
            )
        answer = positions
    return answer, min(settings.default_max_tokens, answer)


def answer_settings(
    limits: tuple[int, int], rules: Rules, pad_token_id: int, settings: Generation
) -> Seq2SeqSettings:
    """Settings of the `seq2seq` stage.

    Args:
        limits: What `answer_limits` gives.
        rules: What the checkpoint rules out or forces.
        pad_token_id: What short answers of a batch are padded with.
        settings: What the spec says of generation.
    """
    return Seq2SeqSettings(
        default_max_tokens=limits[1],
        intra_op_thread_count=settings.intra_op_thread_count,
        max_tokens=limits[0],
        pad_token_id=pad_token_id,
        rules=rules,
    )


def generation_config(files: CheckpointFiles) -> dict[str, Any]:
    """The checkpoint's `generation_config.json`, or what its config says of generation."""
    found = files.json("generation_config.json")
    if found is not None:
        return dict(found)
    values: dict[str, Any] = files.config.to_dict()
    return values


def end_tokens(files: CheckpointFiles, tokenizer: Any) -> tuple[int, ...]:
    """Ids that end an answer.

    Raises:
        CheckpointError: there is none: answers would never end.
    """
    ends = generation_config(files).get("eos_token_id")
    if ends is None:
        ends = files.config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    values = ends if isinstance(ends, list) else [ends]
    tokens = tuple(int(value) for value in values if value is not None)
    if not tokens:
        raise CheckpointError(
            f"{files.source} names no end-of-sequence token, so no answer would end; set "
            "eos_token_id in its generation_config.json or eos_token in its tokenizer"
        )
    return tokens


def tolerance_of(spec: TaskSpec) -> Tolerance:
    """How far the decoder may be from the checkpoint, by its precision."""
    generation = generation_of(spec)
    if generation.weights is None and precision_of(spec) == "fp32":
        return spec.tolerance
    if generation.tolerance is not None:
        return generation.tolerance
    if generation.weights is not None:
        return Verify().int8 if generation.weights == "int8" else Verify().int4
    return Verify().fp16


def precision_of(spec: TaskSpec) -> Any:
    """Precision of activations and cache: the target's own where the spec does not say."""
    return generation_of(spec).precision or ("fp32" if spec.target == "cpu" else "fp16")
