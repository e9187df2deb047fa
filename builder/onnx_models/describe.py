"""What `builder init` writes of an ONNX file."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from builder.onnx_models.examples import Example, find_example
from builder.onnx_models.parity import is_random, why_not_batched
from builder.onnx_models.process import Bounds, run_bounded
from builder.onnx_models.ranges import integer_ranges
from builder.onnx_models.signature import GraphSignature, GraphTensor, read_signature
from builder.onnx_models.source import Level, OnnxSource, open_session, open_source
from builder.publish.manifest import sha256
from builder.render.templates import render_template
from builder.spec.onnx_file import OnnxTensor

DEFAULT_MAX_BATCH_SIZE = 16


@dataclass(frozen=True)
class _Line:
    """A tensor of the spec and what stands behind it."""

    tensor: OnnxTensor
    note: str = ""

    @property
    def text(self) -> str:
        """YAML in one line."""
        optional = ", optional: true" if self.tensor.optional else ""
        dims = ", ".join(map(str, self.tensor.dims))
        note = f" # {self.note}" if self.note else ""
        return (
            f"{{name: {json.dumps(self.tensor.name)}, data_type: {self.tensor.data_type}, "
            f"dims: [{dims}]{optional}}}{note}"
        )


@dataclass(frozen=True)
class Described:
    """An inspected file.

    Attributes:
        source: The file.
        signature: Its tensors.
        example: Inputs that it runs with.
        why_not: Why requests can't be joined; "" where they can.
        random: Whether it draws random numbers.
        guessed: Integer inputs of which nothing says what values they take.
    """

    source: OnnxSource
    signature: GraphSignature
    example: Example
    why_not: str
    random: bool
    guessed: set[str] = field(default_factory=set)

    def lines(self, tensors: tuple[GraphTensor, ...]) -> list[str]:
        """The tensors of a spec."""
        made = []
        for tensor in tensors:
            names = [str(dim) for dim in tensor.dims]
            named = any(isinstance(d, str) and not d.startswith(tensor.name) for d in tensor.dims)
            note = f"[{', '.join(names)}] in the file" if named else ""
            made.append(_Line(tensor.spec(batched=not self.why_not), note).text)
        return made


def describe(path: Path) -> Described:
    """Check a file, run it, and find out what Triton must know of it.

    Raises:
        CheckpointError: it can't be served.
    """
    source = open_source(path)
    source.check()
    source.check_whole()
    session = open_session(path, Level.ORT_ENABLE_ALL)
    signature = read_signature(session, str(path))
    integers = [t.name for t in signature.inputs if "INT" in t.data_type]
    ranges = integer_ranges(source.model, integers)
    example = find_example(session, signature.inputs, {}, ranges, str(path))
    outputs = [tensor.name for tensor in signature.outputs]
    random = is_random(session, example, outputs)
    if signature.batch_candidates and not random:
        why_not = why_not_batched(session, example, outputs)
    else:
        fixed = next(
            (t.name for t in (*signature.inputs, *signature.outputs)
             if not t.dims or not isinstance(t.dims[0], str)),
            "",
        )  # fmt: skip
        why_not = f"the first dim of {fixed} is not free" if fixed else "it draws random numbers"
    wide = {t.name for t in signature.inputs if t.data_type.endswith(("16", "32", "64"))}
    guessed = {name for name in example.ranges if name in wide} - set(ranges)
    return Described(source, signature, example, why_not, random, guessed)


def spec_text(path: Path, name: str, written: str) -> str:
    """A spec for an ONNX file.

    Args:
        path: The file.
        name: Name of the model.
        written: The path as it stands in the spec.

    Raises:
        CheckpointError: it can't be served.
    """
    open_source(path).check()  # what needs no run is said at once
    text: str = run_bounded(f"{__name__}:_spec_text", path, Bounds.of(path), name, written)
    return text


def _spec_text(path: Path, name: str, written: str) -> str:
    """`spec_text`, in a process of its own."""
    found = describe(path)
    first = {t.dims[0] for t in found.signature.inputs if t.dims} if not found.why_not else set()
    sizes = {key: size for key, size in found.example.dims.items() if key not in first}
    optional = found.signature.optional if found.why_not else ()
    return render_template(
        "onnx.yaml.j2",
        name=name,
        path=json.dumps(written),
        sha256=sha256(path),
        producer=_producer(found.source),
        opset=found.source.opset,
        ir_version=found.source.model.ir_version,
        inputs=found.lines((*found.signature.inputs, *optional)),
        outputs=found.lines(found.signature.outputs),
        left_out=found.signature.left_out,
        why_not=found.why_not,
        max_batch_size=0 if found.why_not else DEFAULT_MAX_BATCH_SIZE,
        dims=json.dumps(sizes),
        ranges=[
            (json.dumps(key), list(bounds), key in found.guessed)
            for key, bounds in found.example.ranges.items()
        ],
        random=found.random,
        threads=os.cpu_count() or 1,
    )


def _producer(source: OnnxSource) -> str:
    model = source.model
    text = " ".join(f"{model.producer_name} {model.producer_version}".split())
    return "".join(c for c in text if c.isprintable())[:60]
