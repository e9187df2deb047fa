"""Operators of an ONNX file against those of an ONNX Runtime, measured from its wheel.

`operators.json` has, by domain, operator and version, `[[onnxruntime, facts], ...]` with an entry
for every ONNX Runtime whose facts differ from those of the one before; facts are None where it
lacks the operator. `python scripts/measure_onnxruntimes.py` writes it.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from builder.releases.table import OnnxRuntime, onnxruntime_of, version_key

DATA = Path(__file__).with_name("operators.json")

_Facts: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NodeUse:
    """How a graph uses an operator; nodes that use it alike are one.

    Attributes:
        domain: `ai.onnx` for the default one.
        operator: The operator's name.
        opset: Of the domain, as the file imports it; 0: it doesn't.
        attributes: Names and, for integers, values.
        inputs: Number of inputs.
        outputs: Number of outputs.
    """

    domain: str
    operator: str
    opset: int
    attributes: frozenset[tuple[str, int | None]]
    inputs: int
    outputs: int

    @property
    def title(self) -> str:
        """The operator with its domain, the default one left out."""
        return self.operator if self.domain == "ai.onnx" else f"{self.domain}::{self.operator}"


def domain_name(domain: str) -> str:
    """A domain by its name in the table: the default one is `ai.onnx`."""
    return domain or "ai.onnx"


def use_of(node: onnx.NodeProto, opsets: Mapping[str, int]) -> NodeUse:
    """How a node uses its operator.

    Args:
        node: The node.
        opsets: Domain -> opset that the file imports.
    """
    domain = domain_name(node.domain)
    return NodeUse(
        domain,
        node.op_type,
        opsets.get(domain, 0),
        frozenset(
            (a.name, a.i if a.type == onnx.AttributeProto.INT else None) for a in node.attribute
        ),
        _given(node.input),
        _given(node.output),
    )


def _given(names: Sequence[str]) -> int:
    """Number of values, those left out at the end not counted."""
    number = len(names)
    while number and not names[number - 1]:
        number -= 1
    return number


def opsets_of(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """Domain -> opset of an import list."""
    opsets: dict[str, int] = {}
    for one in imports:
        domain = domain_name(one.domain)
        opsets[domain] = max(one.version, opsets.get(domain, 0))
    return opsets


def uses_of(model: onnx.ModelProto) -> set[NodeUse]:
    """How a model uses operators, in its functions too."""
    opsets = opsets_of(model.opset_import)
    functions = {
        (domain_name(f.domain), f.name): {use_of(node, opsets) for node in nodes_of(f.node)}
        for f in model.functions
    }
    return called({use_of(node, opsets) for node in nodes_of(model.graph.node)}, functions)


def called(
    uses: Iterable[NodeUse], functions: Mapping[tuple[str, str], Iterable[NodeUse]]
) -> set[NodeUse]:
    """Uses with those of the functions that they call in the calls' place.

    ONNX Runtime puts a function's nodes where it is called, and takes them to be of the opsets of
    the model, not of the function's own; it never looks at a function that is not called (seen
    with 1.19.2 and 1.28.0).
    """
    found: set[NodeUse] = set()
    waiting, met = list(uses), set()
    while waiting:
        use = waiting.pop()
        key = (use.domain, use.operator)
        if key not in functions:
            found.add(use)
        elif key not in met:
            met.add(key)
            waiting += functions[key]
    return found


def nodes_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes and those in their graphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from nodes_of(attribute.g.node)
            for graph in attribute.graphs:
                yield from nodes_of(graph.node)


def onnx_problems(
    onnxruntime: str,
    opsets: Mapping[str, int],
    uses: Iterable[NodeUse],
    *,
    cpu: bool = False,
    custom: bool = False,
) -> list[str]:
    """What an ONNX Runtime does not load of a file, one clause each, sorted.

    Args:
        onnxruntime: Its version.
        opsets: Domain -> opset that the file imports.
        uses: How the file uses operators.
        cpu: Whether every node is run by a CPU: then its operator needs a kernel for that.
        custom: Whether a library of custom operators is loaded: then an operator that is not
            known may be there.
    """
    limits = onnxruntime_of(onnxruntime)
    found = {
        f"opset {opset} of {domain} (at most {limits.opsets[domain]})"
        for domain, opset in opsets.items()
        if opset > limits.opsets.get(domain, opset)
    }
    for use in uses:
        # What an opset brings that is too new is not worth a sentence for each operator.
        if use.opset <= limits.opsets.get(use.domain, use.opset):
            found |= set(_operator_problems(limits, use, cpu=cpu, custom=custom))
    return sorted(found)


def listed(problems: Sequence[str], most: int = 4) -> str:
    """Problems as one phrase; of many, the first few and how many more there are."""
    shown = list(problems[:most])
    more = len(problems) - len(shown)
    if more:
        shown.append(f"{more} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _operator_problems(
    limits: OnnxRuntime, use: NodeUse, *, cpu: bool, custom: bool
) -> Iterator[str]:
    wheel = limits.wheel
    versions = _operators().get(use.domain, {}).get(use.operator, {})
    known = {int(since): facts for since in versions if (facts := _at(versions[since], wheel))}
    # A domain that is known need not be imported; its highest opset holds then.
    opset = use.opset or limits.opsets.get(use.domain, 0)
    fitting = [since for since in known if since <= opset]
    if not fitting or known[max(fitting)].get("deprecated"):
        if not custom:
            of = f" of opset {opset}" if known else ""
            yield f"the operator {use.title}{of}"
        return
    facts = known[max(fitting)]
    names = {name for name, _ in use.attributes}
    for name in sorted(names - set(facts["attributes"])):
        yield f"the attribute {name} of {use.title}"
    for kind, number in (("inputs", use.inputs), ("outputs", use.outputs)):
        if facts[kind] is not None and number > facts[kind]:
            yield f"{number} {kind} of {use.title} (at most {facts[kind]})"
    values = _values().get(use.operator, {}) if use.domain == "com.microsoft" else {}
    for name, value in sorted((n, v) for n, v in use.attributes if v is not None):
        taken = _at(values[name], wheel) if name in values else None
        if taken and value not in taken:
            yield f"{name} {value} of {use.title} ({', '.join(map(str, taken))})"
    if cpu and facts.get("cpu") is False:
        version = f" of opset {max(fitting)}" if use.domain == "ai.onnx" else ""
        yield f"the operator {use.title}{version} on a CPU"


def introduced(domain: str, operator: str, opset: int) -> int:
    """The version of an operator that an opset has, by the newest ONNX Runtime that was measured.

    0 where it has none.
    """
    versions = _operators().get(domain, {}).get(operator, {})
    return max((int(since) for since in versions if int(since) <= opset), default=0)


def onnxruntimes_measured() -> list[str]:
    """Every ONNX Runtime that was measured, oldest first."""
    measured: list[str] = _data()["measured"]
    return measured


def operator_changes(domain: str, version: str) -> tuple[list[str], list[str]]:
    """What an ONNX Runtime has of a domain that the measured one before lacks, and the reverse.

    Args:
        domain: The domain.
        version: The ONNX Runtime; not the oldest.

    Returns:
        Names of operators, of attributes as `Operator.attribute` where the operator was there, of
        values as `Operator.attribute = value`; each list sorted.
    """
    measured = onnxruntimes_measured()
    before, now = (_names(domain, one) for one in (measured[measured.index(version) - 1], version))
    known = {name.partition(".")[0] for name in before} & {n.partition(".")[0] for n in now}
    return tuple(  # type: ignore[return-value]
        sorted(name for name in names if "." not in name or name.partition(".")[0] in known)
        for names in (now - before, before - now)
    )


def _names(domain: str, version: str) -> set[str]:
    names = set()
    for operator, versions in _operators().get(domain, {}).items():
        for history in versions.values():
            facts = _at(history, version)
            if facts is not None:
                names |= {operator, *(f"{operator}.{name}" for name in facts["attributes"])}
    if domain == "com.microsoft":
        for operator, attributes in _values().items():
            for attribute, history in attributes.items():
                if f"{operator}.{attribute}" in names:
                    names |= {f"{operator}.{attribute} = {v}" for v in _at(history, version)}
    return names


def _at(history: list[list[Any]], wheel: str) -> Any:
    """The fact that holds for a version."""
    fact = None
    for since, one in history:
        if version_key(since) <= version_key(wheel):
            fact = one
    return fact


@functools.cache
def _data() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DATA.read_text())
    return loaded


def _operators() -> dict[str, dict[str, dict[str, list[list[Any]]]]]:
    operators: dict[str, dict[str, dict[str, list[list[Any]]]]] = _data()["operators"]
    return operators


def _values() -> dict[str, dict[str, list[list[Any]]]]:
    values: dict[str, dict[str, list[list[Any]]]] = _data()["values"]
    return values
