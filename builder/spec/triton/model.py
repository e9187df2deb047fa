"""The settings of one model, put together: what a recipe's own spec types include."""

from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, model_validator

from builder.spec.base import Strict, UInt32
from builder.spec.triton.batch_io import BatchInput, BatchOutput
from builder.spec.triton.dynamic_batching import DynamicBatching
from builder.spec.triton.instances import InstanceGroup
from builder.spec.triton.metrics import ModelMetrics
from builder.spec.triton.optimization import Optimization
from builder.spec.triton.sequence_batching import SequenceBatching
from builder.spec.triton.versions import VersionPolicy
from builder.spec.triton.warmup import ModelWarmup

Parameter = str | bool | int | float
BATCH_STRATEGY: Final = "TRITON_BATCH_STRATEGY_PATH"

_NO_INSTANCES = "an ensemble has no instances of its own; set it on the models of its steps"
_NO_SEQUENCES = "a stage that the builder writes keeps nothing between requests"
_ONE_SHAPE = "a stage that the builder writes takes batches of one shape"


class ResponseCache(Strict):
    """Answers of equal requests come from the server's --cache-config."""

    enable: bool


class TransactionPolicy(Strict):
    """How many responses a request has."""

    decoupled: bool = Field(default=False, description="Any number of them, in a stream.")


class ModelOperations(Strict):
    """Libraries of custom operators; ONNX only."""

    op_library_filename: list[Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, description="Paths on the server."
    )


class EnsembleScheduling(Strict):
    """How an ensemble runs; its steps are written where the ensemble is."""

    max_inflight_requests: UInt32 = Field(
        default=0,
        description="Responses of a decoupled step that may be on their way; 0: any number. "
        "From release 25.11 on.",
    )


class ModelSettings(Strict):
    """What every model may say, an ensemble too."""

    refused: ClassVar[dict[str, str]] = {}
    """Keys of other kinds of models, and why they have no meaning for this one."""

    version_policy: VersionPolicy | None = Field(
        default=None, description="null: the version with the highest number."
    )
    response_cache: ResponseCache | None = None
    metric_tags: dict[str, str] = Field(
        default_factory=dict, description="Labels of the model's metrics."
    )
    model_metrics: ModelMetrics | None = Field(default=None, description="From release 24.11 on.")
    parameters: dict[str, Parameter] = Field(
        default_factory=dict, description="Further parameters, read by the backend or the model."
    )

    @model_validator(mode="before")
    @classmethod
    def _keys_have_a_meaning(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for key, reason in cls.refused.items():
                if key in values and key not in cls.model_fields:
                    raise ValueError(f"{key} has no meaning here: {reason}")
        return values


class EnsembleSettings(ModelSettings):
    """What an ensemble may say beside its steps."""

    refused: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "instance_group",
            "instances",
            "optimization",
            "model_warmup",
            "dynamic_batching",
            "sequence_batching",
        ),
        _NO_INSTANCES,
    )

    ensemble_scheduling: EnsembleScheduling | None = None


class StageSettings(ModelSettings):
    """What a model with instances may say, a stage that the builder writes too."""

    refused: ClassVar[dict[str, str]] = {
        "sequence_batching": _NO_SEQUENCES,
        "batch_input": _ONE_SHAPE,
        "batch_output": _ONE_SHAPE,
        "model_transaction_policy": "the builder says which of its stages stream",
        "model_operations": "graphs that the builder exports have no custom operators",
        "runtime": "the builder says what runs a stage that it writes",
        "ensemble_scheduling": "it is a setting of ensembles",
    }

    instance_group: list[InstanceGroup] | None = Field(
        default=None, min_length=1, description="null: one group, as `instances` says."
    )
    optimization: Optimization | None = None
    model_warmup: list[ModelWarmup] | None = Field(
        default=None, description="null: the builder's own, where a stage has one; []: none."
    )

    @model_validator(mode="after")
    def _said_once(self) -> "StageSettings":
        for key in ("instances", "kind"):  # `kind` of a stage that runs a decoder
            if self.instance_group is not None and key in self.model_fields_set:
                raise ValueError(f"{key} and instance_group say the same; keep one")
        session = getattr(self, "onnxruntime", None)
        level = self.optimization.graph if self.optimization else None
        if level and session and "graph_optimization" in session.model_fields_set:
            raise ValueError(
                "optimization.graph and onnxruntime.graph_optimization say the same; keep one"
            )
        return self

    @model_validator(mode="after")
    def _somebody_answers(self) -> "StageSettings":
        # Triton 24.10 loads such a model and dies of its first request (seen).
        groups = self.instance_group or []
        if groups and all(group.passive for group in groups):
            raise ValueError(
                "every instance_group is passive, so that nobody would answer; leave one active"
            )
        return self


class BatchedStage(StageSettings):
    """A stage that the builder writes, where requests are joined as everywhere."""

    dynamic_batching: DynamicBatching | None = Field(
        default=None, description="null: the builder's own."
    )


class TritonModel(StageSettings):
    """All that a model of the user's own may say; `max_batch_size` and the batcher among it."""

    refused: ClassVar[dict[str, str]] = {"ensemble_scheduling": "it is a setting of ensembles"}

    max_batch_size: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Most rows in one run; 0: there is no batch dim."
    )
    dynamic_batching: DynamicBatching | None = Field(
        default=None, description="null turns the dynamic batcher off."
    )
    sequence_batching: SequenceBatching | None = None
    instances: InstanceGroup = Field(default_factory=InstanceGroup)
    batch_input: list[BatchInput] = Field(default_factory=list)
    batch_output: list[BatchOutput] = Field(default_factory=list)
    model_transaction_policy: TransactionPolicy = Field(default_factory=TransactionPolicy)
    model_operations: ModelOperations | None = None
    runtime: str | None = Field(
        default=None, min_length=1, description="File name of the backend's library."
    )

    @model_validator(mode="after")
    def _one_batcher(self) -> "TritonModel":
        dynamic, sequence = self.dynamic_batching, self.sequence_batching
        if dynamic is not None and sequence is not None:
            raise ValueError("dynamic_batching and sequence_batching exclude each other; keep one")
        if self.batch_input and not self.max_batch_size:
            raise ValueError("batch_input needs a max_batch_size above 0")
        require_sizes(dynamic.preferred_batch_size if dynamic else [], self.max_batch_size)
        require_sizes(sequence.preferred() if sequence else [], self.max_batch_size)
        return self

    @model_validator(mode="after")
    def _goes_with_the_batcher(self) -> "TritonModel":
        cached = self.response_cache is not None and self.response_cache.enable
        if cached and self.sequence_batching is not None:
            raise ValueError(
                "response_cache and sequence_batching exclude each other: an answer depends on "
                "what came before"
            )
        if cached and self.model_transaction_policy.decoupled:
            raise ValueError(
                "response_cache and model_transaction_policy.decoupled exclude each other: a "
                "stream is not cached"
            )
        if self.sequence_batching is not None and BATCH_STRATEGY in self.parameters:
            raise ValueError(
                f"sequence_batching and the parameter {BATCH_STRATEGY} exclude each other"
            )
        return self


def require_sizes(preferred: list[int], maximum: int) -> None:
    """Refuse preferred batches that a model does not take.

    Raises:
        ValueError: one is larger than the maximum.
    """
    too_large = [size for size in preferred if size > maximum]
    if too_large:
        raise ValueError(
            f"preferred_batch_size {too_large[0]} is larger than max_batch_size {maximum}"
        )
