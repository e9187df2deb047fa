"""The graph of an ensemble: which step gives what to which, in layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.inspect.repository import ModelInfo, StepInfo

REQUEST = "request"
RESPONSE = "response"


@dataclass(frozen=True)
class Node:
    """A step, or the client at either end.

    Attributes:
        key: Unique in the graph.
        label: Name of the model; `request` and `response` for the ends.
        note: Its backend, or what is wrong with it.
        layer: Steps of a layer need none of each other: Triton may run them side by side.
        broken: The step can't run: it waits for itself, or its model is not there.
    """

    key: str
    label: str
    note: str
    layer: int
    broken: bool = False


@dataclass(frozen=True)
class Edge:
    """Tensors of the ensemble that go from one node to another, by the ensemble's names."""

    source: str
    target: str
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class EnsembleGraph:
    """What is drawn of one ensemble; of any other model: request, model, response."""

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    problems: tuple[str, ...] = ()

    def node(self, key: str) -> Node:
        """The node of a key."""
        return next(node for node in self.nodes if node.key == key)

    def layers(self) -> list[list[Node]]:
        """Nodes by layer: the request first, the response last."""
        count = max(node.layer for node in self.nodes) + 1
        return [[node for node in self.nodes if node.layer == layer] for layer in range(count)]


def graph_of(model: ModelInfo, repository: Sequence[ModelInfo]) -> EnsembleGraph:
    """The graph of a model.

    Args:
        model: An ensemble, or any other model, which is its own only step.
        repository: The models that its steps may name.
    """
    steps = model.steps or (_itself(model),)
    by_name = {info.name: info for info in repository}
    keys = [f"step {number}" for number in range(1, len(steps) + 1)]
    named = dict(zip(keys, steps, strict=True))
    pairs, problems = _pairs(model, named, by_name)
    layers, circle = _layers(keys, pairs)
    nodes = [Node(REQUEST, REQUEST, "", 0)]
    for key, step in named.items():
        note, broken = _note(step, model, by_name)
        if key in circle:
            note, broken = "waits for itself", True
            problems.append(f"{step.model} waits for its own output: the steps run in a circle")
        elif broken:
            problems.append(f"{step.model}: {note}")
        nodes.append(Node(key, step.model, note, layers[key], broken))
    nodes.append(Node(RESPONSE, RESPONSE, "", max(layers.values(), default=0) + 1))
    edges = tuple(Edge(*ends, tuple(tensors)) for ends, tensors in pairs.items())
    return EnsembleGraph(model.name, tuple(nodes), edges, tuple(dict.fromkeys(problems)))


def _pairs(
    model: ModelInfo, steps: Mapping[str, StepInfo], by_name: Mapping[str, ModelInfo]
) -> tuple[dict[tuple[str, str], list[str]], list[str]]:
    """Tensors by the two nodes that they go between; and what is wrong with them."""
    makers: dict[str, str] = {io.name: REQUEST for io in model.inputs}
    pairs: dict[tuple[str, str], list[str]] = {}
    problems = []
    for key, step in steps.items():
        for tensor in step.output_map.values():
            if tensor in makers:
                problems.append(f"'{tensor}' is made twice, by {step.model} again")
            makers.setdefault(tensor, key)
    for key, step in steps.items():
        info = by_name.get(step.model)
        order = {io.name: place for place, io in enumerate(info.inputs if info else ())}
        # Protobuf maps have no order; the model's own is the one that a reader knows.
        names = sorted(step.input_map, key=lambda name: (order.get(name, len(order)), name))
        for tensor in dict.fromkeys(step.input_map[name] for name in names):
            if tensor in makers:
                pairs.setdefault((makers[tensor], key), []).append(tensor)
            else:
                problems.append(f"no step makes '{tensor}', which {step.model} needs")
    for io in model.outputs:
        if io.name in makers:
            pairs.setdefault((makers[io.name], RESPONSE), []).append(io.name)
        else:
            problems.append(f"no step makes the output '{io.name}'")
    return pairs, problems


def _itself(model: ModelInfo) -> StepInfo:
    return StepInfo(
        model.name,
        -1,
        {io.name: io.name for io in model.inputs},
        {io.name: io.name for io in model.outputs},
    )


def _note(step: StepInfo, model: ModelInfo, by_name: Mapping[str, ModelInfo]) -> tuple[str, bool]:
    """The words below a step's name, and whether it is broken."""
    info = by_name.get(step.model)
    if info is None:
        return "not in the repository", True
    if model.steps and _reaches(info, model.name, by_name):
        return f"calls {model.name} again", True
    if not info.backend:
        return "its config can't be read" if info.problems else "backend not known", True
    version = f", version {step.version}" if step.version > 0 else ""
    return f"{info.backend}{version}{', stream' if info.decoupled else ''}", False


def _reaches(info: ModelInfo, name: str, by_name: Mapping[str, ModelInfo]) -> bool:
    """Whether a model is, or calls, the ensemble `name`."""
    waiting, seen = [info.name], set[str]()
    while waiting:
        current = waiting.pop()
        if current == name:
            return True
        if current not in seen and current in by_name:
            seen.add(current)
            waiting += [step.model for step in by_name[current].steps]
    return False


def _layers(
    keys: Sequence[str], pairs: Mapping[tuple[str, str], list[str]]
) -> tuple[dict[str, int], set[str]]:
    """Longest way from the request for every step; and the steps that lie in a circle."""
    before = {key: {source for source, target in pairs if target == key} for key in keys}
    layers = {REQUEST: 0}
    waiting = list(keys)
    while waiting:
        ready = [key for key in waiting if before[key] <= layers.keys()]
        if not ready:
            break
        for key in ready:
            layers[key] = 1 + max((layers[source] for source in before[key]), default=0)
            waiting.remove(key)
    circle = {key for key in waiting if _in_circle(key, before)}
    # What is left is drawn behind the rest, one layer each, so that the circle can be seen.
    last = max(layers.values())
    for place, key in enumerate(waiting, start=1):
        layers[key] = last + place
    return {key: layers[key] for key in keys}, circle


def _in_circle(key: str, before: Mapping[str, set[str]]) -> bool:
    waiting, seen = list(before[key]), set[str]()
    while waiting:
        current = waiting.pop()
        if current == key:
            return True
        if current not in seen:
            seen.add(current)
            waiting += before.get(current, ())
    return False
