"""A spec's batching, instances and session settings in the terms of a model config."""

from typing import Final

from builder.render.model_config import DynamicBatching, InstanceGroup
from builder.spec import batching as spec
from builder.spec.language import DecoderEngine

GRAPH_LEVELS: Final = {"all": 0, "extended": 1, "basic": -1, "off": 2}
"""Triton's optimization.graph.level."""


def device(kind: str, target: str) -> str:
    """CPU or GPU: what the spec says, or the target's own where it says auto."""
    if kind != "auto":
        return kind.upper()
    return "CPU" if target == "cpu" else "GPU"


def instances(group: spec.InstanceGroup, target: str) -> InstanceGroup:
    """The instance group; CUDA devices only where it runs on them."""
    place = device(group.kind, target)
    return InstanceGroup(group.count, place, tuple(group.gpus) if place == "GPU" else ())


def dynamic_batching(batching: spec.DynamicBatching | None) -> DynamicBatching | None:
    """The dynamic batcher; None where the spec turns it off."""
    if batching is None:
        return None
    return DynamicBatching(
        tuple(batching.preferred_batch_size),
        batching.max_queue_delay_microseconds,
        batching.preserve_ordering,
    )


def session_parameters(settings: spec.OnnxRuntime) -> dict[str, str]:
    """Parameters of Triton's ONNX Runtime backend."""
    return {
        "intra_op_thread_count": str(settings.intra_op_thread_count),
        "inter_op_thread_count": str(settings.inter_op_thread_count),
        "execution_mode": "1" if settings.execution_mode == "parallel" else "0",
    }


def engine_parameters(engine: DecoderEngine) -> dict[str, str]:
    """Parameters of a Python stage that runs a decoder: cache, batching and threads."""
    return {
        "draft_tokens": str(engine.draft_tokens),
        "intra_op_thread_count": str(engine.intra_op_thread_count),
        "kv_cache_tokens": str(engine.kv_cache_tokens or 0),
        "max_waiting": str(engine.max_waiting),
        "prefill_chunk": str(engine.prefill_chunk),
        "slots": str(engine.slots),
        "spinning": str(engine.spinning).lower(),
    }
