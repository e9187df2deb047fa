"""Measure what ONNX Runtimes load, from their wheels, and write it into the release table.

Each version gets an environment of its own (`python3.11 -m venv`, pip), which loads and runs small
generated models (`scripts/onnxruntime_facts.py`) and lists its operators. What comes out goes into
`builder/releases/releases.yaml` (highest IR and opsets, below its last comment) and
`builder/releases/operators.json` (operators, attributes, values, whether a CPU runs them).

    python scripts/measure_onnxruntimes.py            those of the table that are not measured yet
    python scripts/measure_onnxruntimes.py --all      every one of them anew
    python scripts/measure_onnxruntimes.py 1.29.0     this one

An environment takes about 200 MB while it is used; it is removed afterwards. A version without a
wheel is measured on the next lower one that has one, and the table says so.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from ruamel.yaml import YAML

_FOLDER = Path(__file__).resolve().parents[1] / "builder" / "releases"
_TABLE = _FOLDER / "releases.yaml"
_OPERATORS = _FOLDER / "operators.json"
_MARK = "onnxruntime:\n"
_FACTS = Path(__file__).with_name("onnxruntime_facts.py")

_IRS = range(3, 21)
_OPSETS = range(1, 41)
_DOMAINS = (
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "ai.onnx.training",
    "com.microsoft",
    "com.microsoft.nchwc",
    "org.pytorch.aten",
)
"""Domains of ONNX and of ONNX Runtime that its CPU wheel knows."""
_INTERNAL = frozenset({"com.ms.internal.nhwc", "com.microsoft.nchwc"})
"""Domains that only ONNX Runtime's own optimizer writes, for the machine that it runs on."""
_ALWAYS = frozenset({"Constant", "ConstantOfShape"})
_OPEN = 2**31 - 1

Key = tuple[int, ...]


def _key(version: str) -> Key:
    return tuple(int(part) for part in version.split("."))


def _model(
    nodes: list[onnx.NodeProto],
    opsets: dict[str, int],
    ir: int = 8,
    *,
    dims: tuple[int, ...] = (1, 4),
    data_type: int = TensorProto.FLOAT,
    weights: tuple[onnx.TensorProto, ...] = (),
) -> bytes:
    """A model with the input `x` and the output `y` of free shape."""
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", data_type, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(weights),
    )
    imports = [helper.make_opsetid("" if d == "ai.onnx" else d, v) for d, v in opsets.items()]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = ir
    return model.SerializeToString()


def _weight(name: str, array: np.ndarray[Any, Any]) -> onnx.TensorProto:
    return numpy_helper.from_array(array, name)


def _matmul_nbits(bits: int = 4, block: int = 32) -> bytes:
    """`MatMulNBits` with symmetric weights."""
    rows, cols = 256, 8
    blocks = rows // block
    return _model(
        [
            helper.make_node(
                "MatMulNBits",
                ["x", "b", "s"],
                ["y"],
                domain="com.microsoft",
                **{"K": rows, "N": cols, "bits": bits, "block_size": block},
            )
        ],
        {"ai.onnx": 17, "com.microsoft": 1},
        dims=(1, rows),
        weights=(
            _weight("b", np.zeros((cols, blocks, block * bits // 8), np.uint8)),
            _weight("s", np.ones(cols * blocks, np.float32)),
        ),
    )


def _gather_block(bits: int | None = None, block: int = 32) -> bytes:
    """`GatherBlockQuantized` over bytes that hold values of `bits`; None: over 4-bit values."""
    width = 64
    if bits is None:
        data = helper.make_tensor("d", TensorProto.UINT4, (4, width), [0] * 4 * width)
        extra = {}
    else:
        data = _weight("d", np.zeros((4, width * bits // 8), np.uint8))
        extra = {"bits": bits}
    return _model(
        [
            helper.make_node(
                "GatherBlockQuantized",
                ["d", "x", "s"],
                ["y"],
                domain="com.microsoft",
                gather_axis=0,
                quantize_axis=1,
                block_size=block,
                **extra,
            )
        ],
        {"ai.onnx": 21, "com.microsoft": 1},
        ir=10,
        dims=(1,),
        data_type=TensorProto.INT64,
        weights=(data, _weight("s", np.ones((4, width // block), np.float32))),
    )


def _value_probes() -> dict[tuple[str, str, int], bytes]:
    """Operator, attribute and value -> a model that uses it."""
    probes: dict[tuple[str, str, int], bytes] = {}
    for bits in range(1, 9):
        probes["MatMulNBits", "bits", bits] = _matmul_nbits(bits)
        probes["GatherBlockQuantized", "bits", bits] = _gather_block(bits)
    for block in (8, 16, 32, 64, 128, 256):
        probes["MatMulNBits", "block_size", block] = _matmul_nbits(block=block)
        if block <= 64:
            probes["GatherBlockQuantized", "block_size", block] = _gather_block(block=block)
    return probes


def _write_probes(folder: Path) -> None:
    identity = [helper.make_node("Identity", ["x"], ["y"])]
    for ir in _IRS:
        (folder / f"ir-{ir}.onnx").write_bytes(_model(identity, {"ai.onnx": 7}, ir))
    for domain in _DOMAINS:
        for opset in _OPSETS:
            opsets = {"ai.onnx": 13, domain: opset}
            (folder / f"opset-{domain}-{opset}.onnx").write_bytes(_model(identity, opsets))
    for (operator, attribute, value), model in _value_probes().items():
        (folder / f"value-{operator}-{attribute}-{value}.onnx").write_bytes(model)


def _pip(python: Path, version: str) -> bool:
    """Install an ONNX Runtime; False where it has no wheel."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
    done = subprocess.run(  # noqa: S603
        [*command, f"onnxruntime=={version}"], capture_output=True, text=True, check=False
    )
    if done.returncode and "No matching distribution" not in done.stderr:
        sys.exit(f"onnxruntime {version} could not be installed: {done.stderr.strip()}")
    return not done.returncode


def _next_lower(python: Path, version: str) -> str:
    """The highest version below that has a wheel."""
    command = [str(python), "-m", "pip", "index", "versions", "onnxruntime"]
    text = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"Available versions: (.*)", text)
    versions = found[1].split(", ") if found else []
    lower = [v for v in versions if _key(v) < _key(version)]
    if not lower:
        sys.exit(f"onnxruntime {version} has no wheel, and none below it has one")
    return max(lower, key=_key)


def _facts(version: str, interpreter: str, probes: Path) -> dict[str, Any]:
    """What the wheel of a version says."""
    with tempfile.TemporaryDirectory(prefix="measure-onnxruntime-") as folder:
        subprocess.run([interpreter, "-m", "venv", folder], check=True)  # noqa: S603
        python = Path(folder) / "bin" / "python"
        wheel = version
        while not _pip(python, wheel):
            wheel = _next_lower(python, wheel)
        done = subprocess.run(  # noqa: S603
            [str(python), str(_FACTS), str(probes)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"onnxruntime {wheel}: {done.stderr.strip()}")
        facts: dict[str, Any] = json.loads(done.stdout)
    if facts["version"] != wheel:
        sys.exit(f"asked for onnxruntime {wheel}, the environment has {facts['version']}")
    return facts


def _limits(facts: dict[str, Any]) -> dict[str, Any]:
    """Highest IR and opsets, a domain that takes every number left out."""
    loaded = facts["loaded"]
    irs = [ir for ir in _IRS if not loaded[f"ir-{ir}"]]
    opsets = {}
    for domain in _DOMAINS:
        loads = [opset for opset in _OPSETS if not loaded[f"opset-{domain}-{opset}"]]
        if len(loads) < len(_OPSETS):
            opsets[domain] = max(loads, default=0)
    return {"wheel": facts["version"], "ir": max(irs), "opsets": opsets}


def _functions() -> set[tuple[str, str, int]]:
    """Operators that ONNX defines by others: what has no kernel is run by its definition."""
    return {
        (schema.domain, schema.name, schema.since_version)
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.has_function or schema.has_context_dependent_function
    }


def _entries(facts: dict[str, Any]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Domain, operator and version -> what the wheel says of it."""
    kernels: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for domain, name, first, last in facts["kernels"]:
        kernels.setdefault((domain, name), []).append((first, last))
    functions = _functions()
    entries = {}
    for schema in facts["operators"]:
        domain, name, since = schema["domain"], schema["name"], schema["since"]
        if domain in _INTERNAL:
            continue
        # A kernel whose range is open stands for its first version only
        # (KernelRegistry::VerifyKernelDef in onnxruntime/core/framework/kernel_registry.cc).
        has_kernel = any(
            first == since or (first < since <= last and last != _OPEN)
            for first, last in kernels.get((domain, name), [])
        )
        entry = {key: schema[key] for key in ("attributes", "inputs", "outputs")}
        if schema["deprecated"]:
            entry["deprecated"] = True
        elif not (has_kernel or (domain, name, since) in functions or name in _ALWAYS):
            entry["cpu"] = False
        entries[domain or "ai.onnx", name, since] = entry
    return entries


def _values(facts: dict[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Operator -> attribute -> values that load and run."""
    values: dict[str, dict[str, list[int]]] = {}
    for operator, attribute, value in _value_probes():
        known = values.setdefault(operator, {}).setdefault(attribute, [])
        if not facts["loaded"][f"value-{operator}-{attribute}-{value}"]:
            known.append(value)
    return values


def _history(of: dict[str, Any]) -> list[list[Any]]:
    """`[[version, fact], ...]` with an entry where the fact changes."""
    rows: list[list[Any]] = []
    for version in sorted(of, key=_key):
        if not rows or rows[-1][1] != of[version]:
            rows.append([version, of[version]])
    return rows


def _operators(every: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The content of `operators.json` from the facts of every version."""
    entries = {version: _entries(facts) for version, facts in every.items()}
    values = {version: _values(facts) for version, facts in every.items()}
    result: dict[str, Any] = {"measured": sorted(every, key=_key), "operators": {}, "values": {}}
    for domain, name, since in sorted({key for of in entries.values() for key in of}):
        of = {version: entries[version].get((domain, name, since)) for version in every}
        by_name = result["operators"].setdefault(domain, {}).setdefault(name, {})
        by_name[str(since)] = _history(of)
    for operator, attributes in next(iter(values.values())).items():
        result["values"][operator] = {
            attribute: _history({v: of[operator][attribute] for v, of in values.items()})
            for attribute in attributes
        }
    return result


def _one_line_each(operators: dict[str, Any]) -> str:
    """The JSON with a line an operator, so that a change is a change of few lines."""
    lines = ["{", f'"measured": {json.dumps(operators["measured"])},', '"operators": {']
    domains = list(operators["operators"].items())
    for number, (domain, names) in enumerate(domains):
        lines.append(f"{json.dumps(domain)}: {{")
        rows = [f"{json.dumps(n)}: {json.dumps(v)}" for n, v in names.items()]
        lines.append(",\n".join(rows))
        lines.append("}," if number < len(domains) - 1 else "}")
    lines += ["},", '"values": {']
    lines.append(
        ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in operators["values"].items())
    )
    lines += ["}", "}", ""]
    return "\n".join(lines)


def _write_limits(limits: dict[str, dict[str, Any]]) -> None:
    """Replace the measured part of the table, which is its end."""
    text = _TABLE.read_text()
    head = text[: text.index("\n" + _MARK) + 1 + len(_MARK)]
    rows = []
    for version in sorted(limits, key=_key):
        of = limits[version]
        opsets = ", ".join(f"{domain}: {opset}" for domain, opset in of["opsets"].items())
        rows.append(
            f'  "{version}": {{wheel: "{of["wheel"]}", ir: {of["ir"]}, opsets: {{{opsets}}}}}\n'
        )
    _TABLE.write_text(head + "".join(rows))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", help="ONNX Runtimes; none: those not measured yet")
    parser.add_argument("--all", action="store_true", help="measure every one of the table anew")
    parser.add_argument("--python", default="python3.11", help="interpreter of the environments")
    parser.add_argument("--facts", type=Path, help="folder that keeps what each wheel said")
    options = parser.parse_args()
    table = YAML(typ="safe").load(_TABLE)
    named = {row["onnxruntime"] for row in table["releases"].values()} | set(options.versions)
    with tempfile.TemporaryDirectory(prefix="probes-") as probes:
        _write_probes(Path(probes))
        every = {}
        for version in sorted(named, key=_key):
            print(f"onnxruntime {version} ...", file=sys.stderr, flush=True)
            kept = options.facts / f"{version}.json" if options.facts else None
            if kept and kept.exists() and not options.all:
                every[version] = json.loads(kept.read_text())
                continue
            every[version] = _facts(version, options.python, Path(probes))
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(every[version]))
    _OPERATORS.write_text(_one_line_each(_operators(every)))
    _write_limits({version: _limits(facts) for version, facts in every.items()})


if __name__ == "__main__":
    main()
