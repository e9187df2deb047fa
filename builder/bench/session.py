"""Measuring models of one server, one after another."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from builder.bench import inputs
from builder.bench.refusals import is_full, measure_refusing
from builder.bench.report import Measurement
from builder.bench.tool import Load, find_perf_analyzer, measure
from builder.errors import ServerError, ToolError
from builder.serve import TritonServer

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to measure, and with which requests."""

    models: Sequence[str]
    concurrencies: Sequence[int]
    streaming: bool | None = None
    """None: for decoupled models."""
    input_data: str | None = None
    """A JSON file, `random` or `zero`; None: made from the model's config."""
    image: Path | None = None
    question: str = inputs.DEFAULT_QUESTION
    max_tokens: int = inputs.DEFAULT_MAX_TOKENS
    shapes: Mapping[str, list[int]] = field(default_factory=dict)
    interval_ms: int = 2000


@contextlib.contextmanager
def server_url(repository: Path, url: str | None, *, timeout: float) -> Iterator[str]:
    """`url`, else that of a server started on `repository` for as long as this lasts."""
    if url is not None:
        yield url
        return
    with TritonServer(repository, timeout=timeout) as server:
        yield server.grpc_url


def run(plan: Plan, url: str, progress: Progress) -> list[Measurement]:
    """Measure every model of `plan` at every concurrency; `progress` is told what is next.

    Raises `ServerError` when the server or a model cannot be reached, `ToolError` when
    perf_analyzer is missing or fails, or when requests cannot be made.
    """
    find_perf_analyzer()
    if plan.input_data not in {None, "random", "zero"} and not Path(str(plan.input_data)).is_file():
        raise ToolError(f"--input-data {plan.input_data} is not a file, 'random' or 'zero'")
    # All configs first: a mistyped last name must not cost the minutes before it.
    configs = {model: model_config(url, model) for model in plan.models}
    measurements = []
    with tempfile.TemporaryDirectory(prefix="builder-bench-") as folder:
        data = {
            model: plan.input_data
            or inputs.write(
                request_data(plan, config, mask_token(url, config)), Path(folder) / f"{index}.json"
            )
            for index, (model, config) in enumerate(configs.items())
        }
        for model, config in configs.items():
            streaming = is_decoupled(config) if plan.streaming is None else plan.streaming
            for concurrency in plan.concurrencies:
                progress(f"{model}, concurrency {concurrency}")
                load = Load(
                    url=url,
                    concurrency=concurrency,
                    streaming=streaming,
                    input_data=data[model],
                    shapes=_shape_options(plan),
                    interval_ms=plan.interval_ms,
                )
                measurements.append(_measured(model, load))
    return measurements


def _measured(model: str, load: Load) -> Measurement:
    """By perf_analyzer, which ends at a refused request; then by clients that count those."""
    try:
        return measure(model, load)
    except ToolError as error:
        if not is_full(str(error)) or load.input_data in {None, "random", "zero"}:
            raise
        if load.streaming:
            raise ToolError(
                f"model '{model}' refuses requests beyond its queue bound at concurrency "
                f"{load.concurrency}; choose a lower --concurrency"
            ) from error
    return measure_refusing(model, load)


def model_config(url: str, model: str) -> dict[str, Any]:
    """The config of a loaded model, as JSON; `ServerError` when there is none."""
    with InferenceServerClient(url) as client:
        try:
            return dict(client.get_model_config(model, as_json=True)["config"])
        except InferenceServerException as error:
            raise ServerError(
                f"model '{model}' is not served at {url}: {error.message()}"
            ) from error


def is_decoupled(config: Mapping[str, Any]) -> bool:
    """Whether a request may get many responses; Triton says so of ensembles too."""
    return bool(config.get("model_transaction_policy", {}).get("decoupled"))


def mask_token(url: str, config: Mapping[str, Any]) -> str:
    """The word that a text must have for an ensemble with a stage that fills masks; else empty."""
    steps = config.get("ensemble_scheduling", {}).get("step", ())
    for step in steps:
        parameters = model_config(url, step["model_name"]).get("parameters", {})
        if "mask_token" in parameters:
            return str(parameters["mask_token"]["string_value"])
    return ""


def request_data(plan: Plan, config: Mapping[str, Any], mask: str = "") -> dict[str, Any]:
    """perf_analyzer's JSON input for one model.

    Args:
        plan: What to measure.
        config: The model's.
        mask: A word that its text must have; empty: none.
    """
    names = {io["name"] for io in config.get("input", ())}
    if inputs.takes_picture(config):
        return inputs.picture_data(plan.image, plan.question, plan.max_tokens)
    if plan.image is not None and "IMAGE" not in names:
        raise ToolError(f"model '{config['name']}' takes no IMAGE: leave --image out")
    if {"PROMPT", "MAX_TOKENS"} <= names:
        return inputs.prompt_data(plan.question, plan.max_tokens)
    strings = {"TEXT": f"one two {mask}".encode()} if mask else {}
    if "IMAGE" in names:
        strings["IMAGE"] = inputs.picture(plan.image)
    shapes = {k: v for k, v in plan.shapes.items() if k in names}
    return inputs.model_data(config, shapes, strings)


def _shape_options(plan: Plan) -> list[str]:
    # perf_analyzer takes --shape with random data only; our JSON carries its shapes.
    if plan.input_data not in {"random", "zero"}:
        return []
    return [f"{name}:{','.join(map(str, dims))}" for name, dims in plan.shapes.items()]
