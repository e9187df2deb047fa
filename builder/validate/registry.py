"""The rule set: every rule is one function, registered by its id."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.validate.findings import Problem, Severity

if TYPE_CHECKING:
    from builder.validate.model import Model

Check = Callable[["Model"], Iterable[Problem]]

_CORE = "https://github.com/triton-inference-server/core/blob/r24.10/src/"
SOURCES = {
    "config": _CORE + "model_config_utils.cc",
    "ensemble": _CORE + "ensemble_scheduler/ensemble_utils.cc",
    "ensemble_scheduler": _CORE + "ensemble_scheduler/ensemble_scheduler.cc",
    "repository": _CORE + "model_repository_manager/model_repository_manager.cc",
    "lifecycle": _CORE + "model_repository_manager/model_lifecycle.cc",
    "model": _CORE + "model.cc",
    "backend": _CORE + "backend_model.cc",
    "instance": _CORE + "backend_model_instance.cc",
    "request": _CORE + "infer_request.cc",
    "metrics": _CORE + "metric_model_reporter.cc",
    "sizes": "https://github.com/triton-inference-server/core/blob/r26.06/src/model_config_utils.h",
    "labels": "https://github.com/triton-inference-server/core/blob/r26.06/src/model.cc",
    "names": "https://github.com/triton-inference-server/core/blob/r26.06/src/"
    "model_repository_manager/model_repository_manager.cc",
    "rate_limiter": _CORE + "rate_limiter.cc",
    "sequence": _CORE + "sequence_batch_scheduler/sequence_batch_scheduler.cc",
    "proto": "https://github.com/triton-inference-server/common/blob/r24.10/protobuf/model_config.proto",
    "textproto": "https://protobuf.dev/reference/protobuf/textformat-spec/",
    "onnxruntime": "https://github.com/triton-inference-server/onnxruntime_backend/blob/r24.10/src/onnxruntime.cc",
    "onnxruntime_utils": "https://github.com/triton-inference-server/onnxruntime_backend/blob/r24.10/src/onnxruntime_utils.cc",
    "tensorrt": "https://github.com/triton-inference-server/tensorrt_backend/blob/r24.10/src/instance_state.cc",
    "tensorrt_utils": "https://github.com/triton-inference-server/tensorrt_backend/blob/r24.10/src/tensorrt_utils.cc",
    "python": "https://github.com/triton-inference-server/python_backend/blob/r24.10/src/python_be.cc",
    "python_stub": "https://github.com/triton-inference-server/python_backend/blob/r24.10/src/pb_stub.cc",
    "docs_config": "https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html",
    "docs_repository": "https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html",
    "docs_optimization": "https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/optimization.html",
}
"""Where each rule's behaviour is written down."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it covers, why, where Triton says so, and the function that checks it."""

    id: str
    section: str
    reason: str
    source: str
    severity: Severity
    check: Check
    needs_config: bool
    """Whether the rule looks at the config; the others run also where it does not parse."""


RULES: dict[str, Rule] = {}
"""All rules by id."""


def rule(
    id: str,
    *,
    section: str,
    reason: str,
    source: str,
    severity: Severity = "error",
    needs_config: bool = True,
) -> Callable[[Check], Check]:
    """Register the decorated function as a rule; `source` is a key of `SOURCES`."""

    def register(check: Check) -> Check:
        if id in RULES:
            raise ValueError(f"two rules are called {id}")
        RULES[id] = Rule(id, section, reason, SOURCES[source], severity, check, needs_config)
        return check

    return register
