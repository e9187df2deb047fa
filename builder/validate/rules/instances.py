"""Instance groups."""

import re
from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "instance groups"
_PROFILE = re.compile(r"\s*[+-]?[0-9]+")
"""What `std::stoi` reads; it ignores what follows."""
_Group = pb.ModelInstanceGroup


def _groups(model: Model) -> Iterator[tuple[str, pb.ModelInstanceGroup]]:
    if not model.is_ensemble:
        for index, group in enumerate(model.config.instance_group):
            yield f"instance_group[{index}]", group


@rule(
    "instance.gpus-without-gpu",
    section=_SECTION,
    reason="only instances on a GPU name GPUs",
    source="config",
)
def only_gpu_instances_name_gpus(model: Model) -> Iterator[Problem]:
    """`KIND_CPU` and `KIND_MODEL` name no GPUs; so does `KIND_AUTO` on a server without them."""
    for path, group in _groups(model):
        if group.gpus and group.kind in (_Group.KIND_CPU, _Group.KIND_MODEL):
            yield Problem(
                f"{path}.gpus",
                f"the group is of kind {_Group.Kind.Name(group.kind)} and names GPUs",
                "use KIND_GPU, or remove gpus",
            )


@rule(
    "instance.kind",
    section=_SECTION,
    reason="an enum may be written as a number, and this number is no kind",
    source="config",
)
def kinds_are_known(model: Model) -> Iterator[Problem]:
    """`kind` is one of the proto's."""
    for path, group in _groups(model):
        if group.kind not in _Group.Kind.values():
            yield Problem(
                f"{path}.kind",
                f"there is no kind {group.kind}",
                f"use one of {', '.join(_Group.Kind.keys())}",
            )


@rule(
    "instance.no-gpu",
    section=_SECTION,
    reason="an instance on a GPU needs a GPU",
    source="config",
)
def gpus_exist(model: Model) -> Iterator[Problem]:
    """`KIND_GPU` needs a server with GPUs, and names only those that it has."""
    for path, group in _groups(model):
        if group.kind != _Group.KIND_GPU:
            continue
        gpus = model.target.gpus
        if gpus == 0:
            yield Problem(
                f"{path}.kind",
                "the group is of kind KIND_GPU, and the server has no GPU",
                "use KIND_CPU or KIND_AUTO",
            )
            continue
        for index, gpu in enumerate(group.gpus):
            if gpu < 0 or (gpus is not None and gpu >= gpus):
                yield Problem(
                    f"{path}.gpus[{index}]",
                    f"there is no GPU {gpu}",
                    f"use a number from 0 to {gpus - 1}" if gpus else "use a number from 0",
                )


@rule(
    "instance.profile",
    section=_SECTION,
    reason="optimization profiles are a thing of TensorRT; they are numbered from 0",
    source="config",
)
def profiles_are_tensorrt(model: Model) -> Iterator[Problem]:
    """`profile` needs a TensorRT plan and holds numbers."""
    for path, group in _groups(model):
        if group.profile and model.config.platform != "tensorrt_plan":
            yield Problem(
                f"{path}.profile",
                "the group picks a profile, but the model is no TensorRT plan",
                "remove profile",
            )
            continue
        for index, profile in enumerate(group.profile):
            number = _PROFILE.match(profile)
            if number is None or not 0 <= int(number[0]) < 1 << 31:
                yield Problem(
                    f"{path}.profile[{index}]",
                    f"the profile {profile!r} is no number from 0",
                    "give the number of the profile, as a string",
                )


@rule(
    "instance.passive",
    section=_SECTION,
    reason="a passive instance takes no requests; Triton loads the model and every request waits",
    source="instance",
    severity="advice",
)
def some_instance_is_active(model: Model) -> Iterator[Problem]:
    """At least one group is not passive."""
    groups = list(_groups(model))
    if groups and all(group.passive for _, group in groups):
        yield Problem(
            "instance_group",
            "every instance is passive, so no request is ever answered",
            "remove passive from one group",
        )


@rule(
    "instance.ensemble",
    section=_SECTION,
    reason="an ensemble has no instances; its steps have them",
    source="config",
)
def ensembles_have_no_instances(model: Model) -> Iterator[Problem]:
    """No instance group in an ensemble."""
    if model.is_ensemble and model.config.instance_group:
        yield Problem(
            "instance_group",
            "an ensemble cannot have instance groups",
            "move instance_group to the models of the steps",
        )
