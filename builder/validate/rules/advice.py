"""What Triton does not say: the model loads and could be served better."""

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate import shapes
from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "advice"
_IMAGE_ELEMENTS = 3 * 64 * 64
_WARMED = frozenset({"onnxruntime", "tensorrt", "pytorch", "tensorflow", "openvino"})


@rule(
    "advice.no-dynamic-batching",
    section=_SECTION,
    reason="max_batch_size alone joins no requests; the dynamic batcher does",
    source="docs_optimization",
    severity="advice",
)
def batching_models_have_a_batcher(model: Model) -> Iterator[Problem]:
    """A model that batches has a batcher."""
    if model.is_ensemble or model.config.max_batch_size <= 1:
        return
    if model.config.WhichOneof("scheduling_choice") is None:
        yield Problem(
            "max_batch_size",
            f"the model takes batches of {model.config.max_batch_size}, but nothing joins requests "
            "to batches",
            "add dynamic_batching { }",
        )


@rule(
    "advice.delay-without-batch",
    section=_SECTION,
    reason="waiting for more requests helps only where a batch can hold them",
    source="docs_config",
    severity="advice",
)
def delays_can_pay(model: Model) -> Iterator[Problem]:
    """A queue delay is set only where batches of more than one exist."""
    batching = model.config.dynamic_batching
    if batching.max_queue_delay_microseconds and model.config.max_batch_size <= 1:
        yield Problem(
            "dynamic_batching.max_queue_delay_microseconds",
            f"requests wait up to {batching.max_queue_delay_microseconds} us for a batch, and "
            f"max_batch_size is {model.config.max_batch_size}",
            "raise max_batch_size, or remove the delay",
        )


@rule(
    "advice.float-image",
    section=_SECTION,
    reason="a picture as uint8 has a quarter of the bytes that cross between processes",
    source="docs_optimization",
    severity="advice",
)
def images_cross_as_bytes(model: Model) -> Iterator[Problem]:
    """A tensor that looks like a picture crosses between steps as uint8."""
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        sibling = model.siblings.get(step.model_name)
        if sibling is None or sibling.unusable:
            continue
        for model_input in sibling.config.input:
            if model_input.name in step.input_map and _is_float_image(model_input):
                yield Problem(
                    f'ensemble_scheduling.step[{index}].input_map["{model_input.name}"]',
                    f"the input {model_input.name!r} of {step.model_name!r} looks like a picture "
                    f"of floats: {shapes.words(model_input.dims)}",
                    "pass it as TYPE_UINT8 and rescale inside the model",
                )


def _is_float_image(model_input: pb.ModelInput) -> bool:
    dims = list(model_input.dims)
    if model_input.data_type not in (pb.TYPE_FP32, pb.TYPE_FP64) or len(dims) not in (3, 4):
        return False
    has_channels = 3 in (dims[-1], dims[-3])
    count = shapes.element_count(dims)
    return has_channels and (count == shapes.WILDCARD or count >= _IMAGE_ELEMENTS)


@rule(
    "advice.no-warmup",
    section=_SECTION,
    reason="the first request of a model pays for lazy initialization, unless a warmup does",
    source="docs_config",
    severity="advice",
)
def models_are_warmed_up(model: Model) -> Iterator[Problem]:
    """A model of a native backend has `model_warmup`."""
    if model.backend in _WARMED and not model.is_ensemble and not model.config.model_warmup:
        yield Problem(
            "model_warmup",
            "the first request will be slow: the model is not warmed up",
            "add model_warmup [ { name: ... batch_size: 1 inputs { ... } } ]",
        )


@rule(
    "advice.warmup-skipped",
    section=_SECTION,
    reason="Triton skips a warmup sample of batch size 0",
    source="instance",
    severity="advice",
)
def warmup_samples_run(model: Model) -> Iterator[Problem]:
    """Every warmup sample has a batch size."""
    for index, sample in enumerate(model.config.model_warmup):
        if not sample.batch_size:
            yield Problem(
                f"model_warmup[{index}].batch_size",
                f"the warmup sample {sample.name!r} has batch size 0, so it is skipped",
                "write batch_size: 1",
            )
