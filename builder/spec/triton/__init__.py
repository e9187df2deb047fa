"""What a user may set of Triton's ModelConfig, under its own field names.

The proto is protobuf/model_config.proto of triton-inference-server/common; which values go
together is what `ValidateModelConfig` and its neighbours check in src/model_config_utils.cc of
triton-inference-server/core (read at r26.06). A module a section; `model.py` puts them together.
"""

from builder.spec.triton.batch_io import BatchInput, BatchOutput
from builder.spec.triton.dynamic_batching import DynamicBatching, QueuePolicy
from builder.spec.triton.instances import InstanceGroup, RateLimiter, SecondaryDevice
from builder.spec.triton.metrics import ModelMetrics
from builder.spec.triton.model import EnsembleSettings, ModelSettings, StageSettings, TritonModel
from builder.spec.triton.optimization import Optimization
from builder.spec.triton.sequence_batching import SequenceBatching
from builder.spec.triton.tensors import DataType, ModelInput, ModelOutput
from builder.spec.triton.versions import VersionPolicy
from builder.spec.triton.warmup import ModelWarmup, WarmupInput

__all__ = [
    "BatchInput",
    "BatchOutput",
    "DataType",
    "DynamicBatching",
    "EnsembleSettings",
    "InstanceGroup",
    "ModelInput",
    "ModelMetrics",
    "ModelOutput",
    "ModelSettings",
    "ModelWarmup",
    "Optimization",
    "QueuePolicy",
    "RateLimiter",
    "SecondaryDevice",
    "SequenceBatching",
    "StageSettings",
    "TritonModel",
    "VersionPolicy",
    "WarmupInput",
]
