"""`instance_group`: how many copies of a model run, where, and what they share."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from builder.spec.base import PositiveInt, Strict, UInt32


class Resource(Strict):
    """What an instance takes while it runs; Triton counts it with --rate-limit=execution_count."""

    # `global` is a keyword of Python.
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_by_alias=True, validate_by_name=True
    )

    name: str = Field(min_length=1)
    global_: bool = Field(
        default=False, alias="global", description="Counted once for the server, not by device."
    )
    count: UInt32 = 0


class RateLimiter(Strict):
    """Which instance goes first, and what it takes."""

    resources: list[Resource] = Field(default_factory=list)
    priority: UInt32 = Field(
        default=0, description="An instance of 2 gets half the turns of one of 1; 0 is 1."
    )


class SecondaryDevice(Strict):
    """A device beside the GPU; TensorRT only."""

    kind: Literal["KIND_NVDLA"] = "KIND_NVDLA"
    device_id: Annotated[int, Field(ge=0)] = 0


class InstanceGroup(Strict):
    """How many copies of a model run, and where."""

    name: str | None = Field(default=None, min_length=1)
    count: PositiveInt = Field(default=1, description="Copies on each device.")
    kind: Literal["auto", "cpu", "gpu", "model"] = Field(
        default="auto",
        description="auto: the target's own (cpu on cpu, gpu on gpu and tensorrt); model: the "
        "model decides.",
    )
    gpus: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=list, description="CUDA devices; none: all that the server sees."
    )
    rate_limiter: RateLimiter | None = None
    secondary_devices: list[SecondaryDevice] = Field(default_factory=list)
    profile: list[Annotated[str, Field(pattern=r"^[0-9]+$")]] = Field(
        default_factory=list, description="Optimization profiles; TensorRT only."
    )
    passive: bool = Field(
        default=False, description="Loaded, and given no requests by the scheduler."
    )
    host_policy: str | None = Field(
        default=None, min_length=1, description="A policy of the server's --host-policy."
    )

    @model_validator(mode="after")
    def _only_gpu_instances_name_gpus(self) -> "InstanceGroup":
        # ValidateInstanceGroup; with `auto` the devices are left out on a target without them.
        if self.gpus and self.kind in ("cpu", "model"):
            raise ValueError(f"kind {self.kind} and gpus exclude each other")
        return self
