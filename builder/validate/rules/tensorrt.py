"""TensorRT plans: version and profiles."""

import re
from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.plan import PlanReadError, PlanVersion
from builder.validate.registry import rule

_SECTION = "TensorRT plan"
_CAPABILITY = re.compile(r"[0-9]+\.[0-9]+")


def _plans(model: Model) -> Iterator[tuple[int, str, PlanVersion]]:
    for version, plan in model.plans.items():
        if isinstance(plan, PlanVersion):
            yield version, model.file(model.artifact(version, "model.plan")), plan


@rule(
    "tensorrt.file",
    section=_SECTION,
    reason="TensorRT deserializes the plan when the model is loaded",
    source="tensorrt",
)
def file_is_a_plan(model: Model) -> Iterator[Problem]:
    """The file is a TensorRT plan."""
    for version, plan in model.plans.items():
        if isinstance(plan, PlanReadError):
            yield Problem(
                "",
                f"the file is no TensorRT plan: {plan}",
                "build the engine again",
                file=model.file(model.artifact(version, "model.plan")),
            )


@rule(
    "tensorrt.release",
    section=_SECTION,
    reason="a plan is loaded by the TensorRT version that built it",
    source="tensorrt",
)
def release_loads_the_plan(model: Model) -> Iterator[Problem]:
    """The plan was built by the TensorRT of the release."""
    expected = model.target.tensorrt
    if expected is None:
        return
    for _, file, plan in _plans(model):
        if (plan.major, plan.minor) != expected:
            yield Problem(
                "",
                f"the plan was built by TensorRT {plan}; Triton {model.target.release} has "
                f"{expected[0]}.{expected[1]}",
                f"build it with TensorRT {expected[0]}.{expected[1]}, on the GPU that serves it",
                file=file,
            )


@rule(
    "tensorrt.manifest-version",
    section=_SECTION,
    reason="a plan that is not the one of the manifest was exchanged after the build",
    source="tensorrt",
)
def manifest_tells_the_version(model: Model) -> Iterator[Problem]:
    """The manifest's TensorRT version is the plan's."""
    for version, file, plan in _plans(model):
        manifest = model.plan_manifests.get(version)
        if manifest is not None and manifest.version and not str(plan).startswith(manifest.version):
            yield Problem(
                "",
                f"the plan was built by TensorRT {plan}, the manifest says {manifest.version}",
                "build the model again",
                file=file,
            )


@rule(
    "tensorrt.manifest-file",
    section=_SECTION,
    reason="a plan that is not the one of the manifest was exchanged after the build",
    source="tensorrt",
)
def manifest_tells_the_size(model: Model) -> Iterator[Problem]:
    """The manifest's size of the plan is the file's."""
    for version, file, _ in _plans(model):
        manifest = model.plan_manifests.get(version)
        size = model.artifact(version, "model.plan").stat().st_size
        if manifest is not None and manifest.size and manifest.size != size:
            yield Problem(
                "",
                f"the plan has {size} bytes, the manifest says {manifest.size}",
                "build the model again",
                file=file,
            )


@rule(
    "tensorrt.profile-count",
    section=_SECTION,
    reason="an instance can use only profiles that the engine was built with",
    source="tensorrt",
)
def profiles_exist(model: Model) -> Iterator[Problem]:
    """Every profile of an instance group is one of the manifest's."""
    counts = [len(m.max_batches) for m in model.plan_manifests.values() if m.max_batches]
    if not counts:
        return
    count = min(counts)
    for index, group in enumerate(model.config.instance_group):
        for number, profile in enumerate(group.profile):
            if profile.strip().isdecimal() and int(profile) >= count:
                yield Problem(
                    f"instance_group[{index}].profile[{number}]",
                    f"the group uses profile {profile}; the engine has {count}",
                    f"use a number from 0 to {count - 1}",
                )


@rule(
    "tensorrt.profile-batch",
    section=_SECTION,
    reason="Triton refuses a max_batch_size that the engine's profiles do not reach",
    source="tensorrt",
)
def profiles_reach_the_batch(model: Model) -> Iterator[Problem]:
    """`max_batch_size` is not above the largest batch of the manifest's profiles."""
    maximum = model.config.max_batch_size
    for manifest in model.plan_manifests.values():
        largest = max(manifest.max_batches, default=0)
        if largest and maximum > largest:
            yield Problem(
                "max_batch_size",
                f"max_batch_size is {maximum}; the engine's profiles reach {largest}",
                f"lower it to {largest}, or build with a larger profile",
            )


@rule(
    "tensorrt.several-versions",
    section=_SECTION,
    reason="a plan runs on one GPU architecture; versions of a model are not for architectures",
    source="docs_repository",
    severity="advice",
)
def one_version_of_a_plan(model: Model) -> Iterator[Problem]:
    """A plan has one version; other GPUs get theirs by `cc_model_filenames`."""
    if model.backend == "tensorrt" and len(model.all_versions) > 1:
        yield Problem(
            "version_policy",
            f"the plan has {len(model.all_versions)} versions, all built for the GPU they were "
            "built on",
            "keep one version, and name plans for other GPUs in cc_model_filenames",
        )


@rule(
    "tensorrt.capability",
    section=_SECTION,
    reason="Triton looks the GPU's compute capability up in cc_model_filenames",
    source="docs_config",
)
def capabilities_are_capabilities(model: Model) -> Iterator[Problem]:
    """Keys of `cc_model_filenames` are compute capabilities, values files of each version."""
    if model.backend != "tensorrt":
        return
    for capability, name in sorted(model.config.cc_model_filenames.items()):
        path = f'cc_model_filenames["{capability}"]'
        if not _CAPABILITY.fullmatch(capability):
            yield Problem(
                path,
                f"{capability!r} is no compute capability",
                'write it like "8.6"',
            )
        for version in model.versions:
            if not model.repository.exists(model.version_path(version) / name):
                yield Problem(
                    path,
                    f"version {version} has no file {name!r}",
                    "build the plan for that GPU, or remove the entry",
                )
