"""An ensemble and the models of its steps."""

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate import ensemble
from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "ensemble models"


def _steps(model: Model) -> Iterator[tuple[int, str, "pb.ModelEnsembling.Step"]]:
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        yield index, f"ensemble_scheduling.step[{index}]", step


@rule(
    "ensemble.model-unknown",
    section=_SECTION,
    reason="Triton looks a step's model up in the repository",
    source="repository",
)
def models_exist(model: Model) -> Iterator[Problem]:
    """Every step's model is in the repository."""
    for _, path, step in _steps(model):
        if step.model_name and step.model_name not in model.siblings:
            yield Problem(
                f"{path}.model_name",
                f"there is no model {step.model_name!r} in the repository",
                f"use one of {', '.join(sorted(set(model.siblings) - {model.name})[:20])}",
            )


@rule(
    "ensemble.model-failed",
    section=_SECTION,
    reason="an ensemble is loaded after the models of its steps",
    source="repository",
)
def models_load(model: Model) -> Iterator[Problem]:
    """Triton would load every step's model."""
    for _, path, step in _steps(model):
        sibling = model.siblings.get(step.model_name)
        if sibling is not None and sibling.failed and sibling is not model:
            yield Problem(
                f"{path}.model_name",
                f"Triton refuses the model {step.model_name!r}, so the ensemble too",
                f"mend {step.model_name!r} first",
            )


@rule(
    "ensemble.circle",
    section=_SECTION,
    reason="an ensemble that needs itself can never be loaded; looking for the circle from "
    "outside of it, Triton runs out of stack and dies",
    source="repository",
)
def no_circles(model: Model) -> Iterator[Problem]:
    """No ensemble is a step of itself, also not by way of others, nor needs one that is."""
    for _, path, step in _steps(model):
        member = _circle_member(model, step.model_name)
        if member:
            whose = "itself" if member == model.name else f"{member!r}, which needs itself"
            yield Problem(
                f"{path}.model_name",
                f"by way of {step.model_name!r} the ensemble needs {whose}",
                "take the step out",
            )


def _circle_member(model: Model, first: str) -> str:
    """The first ensemble met twice on a way from `model` through `first`, "" if there is none."""
    on_the_way = {model.name: iter([first])}
    done: set[str] = set()
    while on_the_way:
        name, steps = next(reversed(on_the_way.items()))
        following = next(steps, None)
        if following is None:
            done.add(name)
            del on_the_way[name]
        elif following in on_the_way:
            return following
        elif following not in done and following in model.siblings:
            config = model.siblings[following].config
            on_the_way[following] = iter([s.model_name for s in config.ensemble_scheduling.step])
    return ""


@rule(
    "ensemble.version",
    section=_SECTION,
    reason="a step's version must be one that Triton loads; without model_version it is version 0",
    source="repository",
)
def versions_are_loaded(model: Model) -> Iterator[Problem]:
    """Every step's `model_version` is -1 or a version that is loaded."""
    for _, path, step in _steps(model):
        sibling = model.siblings.get(step.model_name)
        if sibling is None or sibling.failed or step.model_version == -1:
            continue
        if step.model_version not in sibling.versions:
            there = ", ".join(str(version) for version in sibling.versions) or "none"
            yield Problem(
                f"{path}.model_version",
                f"the step asks for version {step.model_version} of {step.model_name!r}; "
                f"loaded are {there}",
                "write model_version: -1 for the latest",
            )


@rule(
    "ensemble.version-omitted",
    section=_SECTION,
    reason="a model_version that is left out means version 0, not the latest",
    source="docs_config",
    severity="advice",
)
def versions_are_written(model: Model) -> Iterator[Problem]:
    """Every step says which version it means."""
    for index, path, step in _steps(model):
        if step.model_version == 0 and f"{path}.model_version" not in model.parsed.lines:
            yield Problem(
                f"{path}.model_version",
                f"step {index} has no model_version, which means version 0",
                "write model_version: -1 for the latest",
            )


@rule(
    "ensemble.batch-size",
    section=_SECTION,
    reason="a step must take every batch that the ensemble takes",
    source="ensemble",
)
def batches_fit(model: Model) -> Iterator[Problem]:
    """A step's `max_batch_size` is 0 or not below the ensemble's."""
    ours = model.config.max_batch_size
    for _, path, step in _steps(model):
        sibling = model.siblings.get(step.model_name)
        if sibling is None or sibling.unusable or sibling is model:
            continue
        theirs = sibling.config.max_batch_size
        if theirs != 0 and theirs < ours and not sibling.open_ended:
            yield Problem(
                f"{path}.model_name",
                f"the ensemble takes batches of {ours}, {step.model_name!r} only of {theirs}",
                f"lower the ensemble's max_batch_size to {theirs}, or raise the model's",
            )


@rule(
    "ensemble.maps",
    section=_SECTION,
    reason="a tensor has one name, one type and one shape on both sides of a map",
    source="ensemble",
)
def maps_fit(model: Model) -> Iterator[Problem]:
    """The maps name inputs and outputs of the models, whose types and shapes agree."""
    if not model.is_ensemble or not _all_usable(model):
        return
    tensors = ensemble.own_tensors(model)
    for index, _, step in _steps(model):
        yield from ensemble.map_step(model, index, step, tensors)


@rule(
    "ensemble.streams",
    section=_SECTION,
    reason="responses of two decoupled models cannot be matched to each other",
    source="ensemble",
)
def streams_do_not_meet(model: Model) -> Iterator[Problem]:
    """No step and no output joins tensors of different decoupled steps."""
    if not model.is_ensemble or not _all_usable(model):
        return
    tensors = ensemble.own_tensors(model)
    for index, _, step in _steps(model):
        for _ in ensemble.map_step(model, index, step, tensors):
            pass
    decoupled, owner = ensemble.follow_streams(model, tensors)
    model.decoupled = decoupled
    if owner:
        yield Problem(
            "ensemble_scheduling",
            f"{owner} takes tensors from different decoupled steps, or from one and from before it",
            "take all of them from the same decoupled step",
        )


def _all_usable(model: Model) -> bool:
    for _, _, step in _steps(model):
        sibling = model.siblings.get(step.model_name)
        if sibling is None or sibling.unusable or sibling is model:
            return False
    return True
