"""What `builder init` writes of a user's Python model, as far as reading it tells."""

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from builder.python_models.source import MODEL_NAME, open_source
from builder.render.templates import render_template

CONFIG_NAME = "config.pbtxt"
REQUIREMENTS_NAME = "requirements.txt"
_CALLS = {"add_input": "inputs", "add_output": "outputs"}


@dataclass(frozen=True)
class Described:
    """The tensors of a model.

    Attributes:
        origin: Where they were read.
        inputs: As in the spec: name, data_type, dims, optional.
        outputs: The same.
        max_batch_size: As in the spec.
        decoupled: As in the spec.
    """

    origin: str
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]
    max_batch_size: int = 0
    decoupled: bool = False


def describe(path: Path) -> Described | None:
    """Read the tensors of a model; None where nothing says them.

    A `config.pbtxt` beside the sources, or above their version folder, comes first, then what
    `auto_complete_config` adds.

    Args:
        path: A folder with a model.py, or one .py file.

    Raises:
        CheckpointError: it can't be served.
    """
    source = open_source(path, environment=False)
    source.check()
    folder = path if path.is_dir() else path.parent
    beside = [folder / CONFIG_NAME, folder.parent / CONFIG_NAME]
    for config in beside[: 2 if folder.name.isdigit() else 1]:
        found = _of_config(config)
        if found is not None:
            return found
    return _of_source(source.files[MODEL_NAME])


def _of_config(path: Path) -> Described | None:
    try:
        config = text_format.Parse(path.read_text(), pb.ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError):
        return None
    sides = (
        [
            {
                "name": tensor.name,
                "data_type": pb.DataType.Name(tensor.data_type),
                "dims": list(tensor.dims),
                "optional": getattr(tensor, "optional", False),
            }
            for tensor in tensors
        ]
        for tensors in (config.input, config.output)
    )
    inputs, outputs = sides
    decoupled = config.model_transaction_policy.decoupled
    return _complete(Described(str(path), inputs, outputs, config.max_batch_size, decoupled))


def _of_source(path: Path) -> Described | None:
    """What `auto_complete_config` adds, where it is written out."""
    tree = ast.parse(path.read_bytes())
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "auto_complete_config"
    ]
    if len(functions) != 1:
        return None
    sides: dict[str, list[Mapping[str, Any]]] = {"inputs": [], "outputs": []}
    most, known = 0, dict(_literals(functions[0]))
    for node in ast.walk(functions[0]):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        value = _value(node.args[0], known)
        if node.func.attr in _CALLS:
            if not isinstance(value, dict):
                return None
            sides[_CALLS[node.func.attr]].append(value)
        elif node.func.attr == "set_max_batch_size":
            if not isinstance(value, int):
                return None
            most = value
    origin = f"auto_complete_config of {path}"
    return _complete(Described(origin, sides["inputs"], sides["outputs"], most))


def _literals(function: ast.FunctionDef) -> Iterator[tuple[str, Any]]:
    """Names that the function gives a constant."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = _value(node.value, {})
            if value is not None:
                yield node.targets[0].id, value


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return None


def _complete(found: Described) -> Described | None:
    """None where a side has no tensor, or one lacks a part of it."""
    parts = {"name": str, "data_type": str, "dims": list}
    whole = all(
        isinstance(tensor.get(key), kind)
        for tensor in (*found.inputs, *found.outputs)
        for key, kind in parts.items()
    )
    return found if whole and found.inputs and found.outputs else None


def _line(tensor: Mapping[str, Any]) -> str:
    """YAML in one line."""
    dims = ", ".join(map(str, tensor["dims"]))
    kind = str(tensor["data_type"]).removeprefix("TYPE_")
    optional = ", optional: true" if tensor.get("optional") else ""
    return f"{{name: {json.dumps(tensor['name'])}, data_type: {kind}, dims: [{dims}]{optional}}}"


def spec_text(path: Path, name: str, written: str) -> tuple[str, str]:
    """A spec for a Python model.

    Args:
        path: A folder with a model.py, or one .py file.
        name: Name of the model.
        written: The path as it stands in the spec.

    Returns:
        The spec, and what the user has to fill in ("": nothing).

    Raises:
        CheckpointError: it can't be served.
    """
    found = describe(path)
    example = [{"name": "INPUT", "data_type": "FP32", "dims": [-1]}]
    shown = found or Described("", example, [{**example[0], "name": "OUTPUT"}])
    has_requirements = path.is_dir() and (path / REQUIREMENTS_NAME).is_file()
    text = render_template(
        "python.yaml.j2",
        name=name,
        path=json.dumps(written),
        requirements=json.dumps(f"{written}/{REQUIREMENTS_NAME}") if has_requirements else "",
        model=shown,
        inputs=[_line(tensor) for tensor in shown.inputs],
        outputs=[_line(tensor) for tensor in shown.outputs],
    )
    missing = (
        f"nothing says which tensors {path} takes and gives: write them into inputs and outputs, "
        "which hold an example"
    )
    return text, "" if found else missing
