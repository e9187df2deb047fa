"""Time spent in each stage, from Triton's own statistics.

Triton counts nanoseconds per model since it started (the statistics extension of its protocol);
the difference of two readings is what happened between them. When others use the server at the
same time their requests are in the difference too: `StageTimes.requests` shows it.

A decoupled stage is counted for its `execute` call only; what it generates after returning
shows in the ensemble's total.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from clients.errors import from_triton
from clients.request import MODEL

_SETTLE_SECONDS = 2.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Sums over `requests` requests of one model, in milliseconds.

    Attributes:
        model: name of the model; version: its version.
        requests: requests that succeeded.
        failures: requests that failed (Triton 24.10 counts one of an ensemble twice).
        cache_hits: requests answered from the response cache.
        queue_ms: waiting for an instance or for a batch to fill.
        input_ms: gathering the inputs.
        infer_ms: running the model.
        output_ms: scattering the outputs.
        total_ms: from the request's arrival at the model to its last response.
    """

    model: str
    version: str
    requests: int
    failures: int
    cache_hits: int
    queue_ms: float
    input_ms: float
    infer_ms: float
    output_ms: float
    total_ms: float


# The reading of one server: model name and version -> what it counted since its start.
Snapshot = Mapping[tuple[str, str], StageTimes]


def read(url: str, *, timeout: float | None = None) -> Snapshot:
    """Read the statistics of every model at `url` (HOST:PORT); `timeout` is in seconds.

    Raises:
        AnswerError: the server can't be reached (ServerUnavailableError) or refuses to tell.
    """
    with InferenceServerClient(url) as client:
        try:
            response = client.get_inference_statistics(client_timeout=timeout)
        except InferenceServerException as error:
            raise from_triton(error) from None
    stages = [_stage(statistics) for statistics in response.model_stats]
    return {(stage.model, stage.version): stage for stage in stages}


def read_after(
    url: str, before: Snapshot, *, model: str = MODEL, timeout: float | None = None
) -> Snapshot:
    """Read the statistics once they hold a request to `model` that `before` does not.

    Triton books a request when it releases it, which is a moment after the client has the last
    response. Gives up waiting after two seconds and returns what is there.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        after = read(url, timeout=timeout)
        booked = any(
            stage.model == model and stage.requests + stage.failures > 0
            for stage in difference(before, after)
        )
        if booked or time.monotonic() > deadline:
            return after
        time.sleep(_POLL_SECONDS)


def difference(before: Snapshot, after: Snapshot) -> list[StageTimes]:
    """What each model did between two readings, in the server's order; idle ones left out.

    A model loaded anew in between starts at zero again and is taken as it is in `after`.
    """
    stages = []
    for key, now in after.items():
        then = before.get(key)
        stage = now if then is None or then.requests > now.requests else _minus(now, then)
        if stage.requests or stage.failures:
            stages.append(stage)
    return stages


def _minus(now: StageTimes, then: StageTimes) -> StageTimes:
    counters = [
        field.name for field in fields(StageTimes) if field.name not in {"model", "version"}
    ]
    changed: dict[str, Any] = {name: getattr(now, name) - getattr(then, name) for name in counters}
    return StageTimes(model=now.model, version=now.version, **changed)


def _stage(statistics: Any) -> StageTimes:
    """From a `ModelStatistics` message."""
    counted = statistics.inference_stats
    return StageTimes(
        model=statistics.name,
        version=statistics.version,
        requests=counted.success.count,
        failures=counted.fail.count,
        cache_hits=counted.cache_hit.count,
        queue_ms=counted.queue.ns / 1e6,
        input_ms=counted.compute_input.ns / 1e6,
        infer_ms=counted.compute_infer.ns / 1e6,
        output_ms=counted.compute_output.ns / 1e6,
        total_ms=counted.success.ns / 1e6,
    )
