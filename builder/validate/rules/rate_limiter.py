"""Resources of the rate limiter."""

from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "rate limiter"


@rule(
    "rate-limiter.global",
    section=_SECTION,
    reason="a resource is counted either once for the server or once for each device",
    source="rate_limiter",
)
def resources_are_of_one_kind(model: Model) -> Iterator[Problem]:
    """No resource name is both global and not, in this model or those before it."""
    if model.target.rate_limit:
        yield from _conflicts(model)


@rule(
    "rate-limiter.global-off",
    section=_SECTION,
    reason="Triton looks at resources only with --rate-limit=execution_count, and refuses this",
    source="rate_limiter",
    severity="advice",
)
def resources_would_be_of_one_kind(model: Model) -> Iterator[Problem]:
    """The same, for a server that ignores resources."""
    if not model.target.rate_limit:
        yield from _conflicts(model)


def _conflicts(model: Model) -> Iterator[Problem]:
    ours = list(_resources(model))
    if not ours:
        return
    owners: dict[tuple[str, bool], str] = {}
    for sibling in model.siblings.values():
        if sibling.name < model.name and not sibling.failed:
            for _, name, is_global in _resources(sibling):
                owners.setdefault((name, is_global), f"model {sibling.name!r}")
    for path, name, is_global in ours:
        owners.setdefault((name, is_global), path)
    for path, name, is_global in ours:
        other = owners.get((name, not is_global))
        if other is not None:
            here, there = ("global", "not global") if is_global else ("not global", "global")
            yield Problem(
                f"{path}.global",
                f"the resource {name!r} is {here} here and {there} in {other}",
                "use one kind for a name, or two names",
            )


def _resources(model: Model) -> Iterator[tuple[str, str, bool]]:
    """Path, name and whether it is global, of the resources of all active instances."""
    if model.is_ensemble or model.unusable:
        return
    for index, group in enumerate(model.config.instance_group):
        if not group.passive:
            for number, resource in enumerate(group.rate_limiter.resources):
                path = f"instance_group[{index}].rate_limiter.resources[{number}]"
                yield path, resource.name, getattr(resource, "global")
