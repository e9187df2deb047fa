"""The inputs and outputs of an ONNX graph, and how a model config must describe them.

The rules and their wording follow Triton's native ONNX Runtime backend, so a repository that is
refused there is refused here, for the same reason:
https://github.com/triton-inference-server/onnxruntime_backend
(src/onnxruntime.cc `ValidateInputs`, `ValidateOutputs`, `AutoCompleteConfig`;
src/onnxruntime_utils.cc `CompareDimsSupported`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TRITON_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}
"""ONNX Runtime's type names -> Triton's. The native backend serves no BF16; neither do we."""

DEFAULT_MAX_BATCH_SIZE = 4
"""Triton's `default-max-batch-size`; a Python-based backend is not told another one."""


class ConfigError(Exception):
    """The model config and the ONNX graph do not fit together."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the graph."""

    name: str
    data_type: str
    """`TYPE_FP32` and so on, or ONNX Runtime's own name where Triton has none."""
    dims: tuple[int, ...]
    """-1 for a dim that varies; empty for a scalar."""


@dataclass(frozen=True)
class Signature:
    """What the graph takes and gives, by name."""

    inputs: Mapping[str, TensorInfo]
    optional: Mapping[str, TensorInfo]
    """Initializers that a request may override."""
    outputs: Mapping[str, TensorInfo]

    @classmethod
    def of(cls, session: Any) -> "Signature":
        """The signature of an `onnxruntime.InferenceSession`."""
        return cls(
            inputs=_infos(session.get_inputs()),
            optional=_infos(session.get_overridable_initializers()),
            outputs=_infos(session.get_outputs()),
        )

    def complete(self, config: dict[str, Any]) -> None:
        """Fill missing inputs, outputs, max_batch_size and scheduler of `config`, in place."""
        if config.get("input") and config.get("output"):
            return
        tensors = (*self.inputs.values(), *self.outputs.values())
        batches = all(info.dims[:1] == (-1,) for info in tensors)
        max_batch_size = config.get("max_batch_size", 0)
        if not batches and max_batch_size:
            raise ConfigError(
                f"autofill failed for model '{config['name']}': model does not support batching "
                "while non-zero max_batch_size is specified"
            )
        if batches:
            max_batch_size = config["max_batch_size"] = max_batch_size or DEFAULT_MAX_BATCH_SIZE
            scheduled = {"sequence_batching", "dynamic_batching"} & config.keys()
            if max_batch_size > 1 and not scheduled:
                config["dynamic_batching"] = {}
        for key, infos in (("input", self.inputs), ("output", self.outputs)):
            if not config.get(key):
                config[key] = [_describe(infos[name], max_batch_size) for name in sorted(infos)]

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise `ConfigError` where `config` does not describe this graph."""
        model = config["name"]
        sequence = config.get("sequence_batching", {})
        states = {state["input_name"] for state in sequence.get("state", ())}
        batched = {name for io in config.get("batch_input", ()) for name in io["target_name"]}
        controls = {control["name"] for control in sequence.get("control_input", ())}
        for name in sorted(controls - self.inputs.keys()):
            raise ConfigError(
                f"configuration specified sequence control '{name}', but model does not provide "
                "that input"
            )
        required = [io for io in config["input"] if not io.get("optional")]
        expected = len(required) + len(controls | states | batched)
        if expected != len(self.inputs):
            raise ConfigError(
                f"unable to load model '{model}', configuration expects {expected} inputs, model "
                f"provides {len(self.inputs)}"
            )
        for state in sequence.get("state", ()):
            self._check_state(config, state)
        for io in config["input"]:
            self._check_input(config, io)
        scattered = {name for io in config.get("batch_output", ()) for name in io["target_name"]}
        for io in config["output"]:
            # The dims of a batch output need not be the graph's.
            _check_tensor(config, io, self.outputs, "output", dims=io["name"] not in scattered)

    def _check_state(self, config: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        for name, infos, kind in (
            (state["input_name"], self.inputs, "input"),
            (state["output_name"], self.outputs, "output"),
        ):
            io = {**state, "name": name}
            _check_tensor(config, io, infos, f"{kind} state", dims=False)

    def _check_input(self, config: Mapping[str, Any], io: Mapping[str, Any]) -> None:
        model, name = config["name"], io["name"]
        if io.get("optional") and config["max_batch_size"]:
            raise ConfigError(
                f"unable to load model '{model}', optional input '{name}' is not supported for "
                "models that support batching"
            )
        ragged = bool(io.get("allow_ragged_batch"))
        if ragged and name in self.inputs and self.inputs[name].dims != (-1,):
            raise ConfigError(
                f"unable to load model '{model}', configuration expects model provides input with "
                f"shape [-1] for ragged input '{name}', model provides "
                f"{_shape(self.inputs[name].dims)}"
            )
        if io.get("optional") and name in self.inputs:
            raise ConfigError(
                f"unable to load model '{model}', input '{name}' is optional in the configuration "
                "but has no initializer in the model"
            )
        infos = {**self.inputs, **self.optional}
        _check_tensor(config, io, infos, "input", dims=not ragged)


def _infos(arguments: Iterable[Any]) -> dict[str, TensorInfo]:
    infos = {}
    for argument in arguments:
        if not argument.type.startswith("tensor("):
            raise ConfigError(
                f"Unsupported ONNX Type '{argument.type}' for I/O '{argument.name}', expected a "
                "tensor"
            )
        dims = tuple(dim if isinstance(dim, int) else -1 for dim in argument.shape or ())
        data_type = TRITON_TYPES.get(argument.type, argument.type)
        infos[argument.name] = TensorInfo(argument.name, data_type, dims)
    return infos


def _describe(info: TensorInfo, max_batch_size: int) -> dict[str, Any]:
    dims = list(info.dims[1 if max_batch_size else 0 :])
    io: dict[str, Any] = {"name": info.name, "data_type": info.data_type, "dims": dims or [1]}
    if not dims and max_batch_size:
        io["reshape"] = {"shape": []}
    return io


def _check_tensor(
    config: Mapping[str, Any],
    io: Mapping[str, Any],
    infos: Mapping[str, TensorInfo],
    kind: str,
    *,
    dims: bool,
) -> None:
    model, name, data_type = config["name"], io["name"], io["data_type"]
    info = infos.get(name)
    if info is None:
        raise ConfigError(
            f"unexpected inference {kind} '{name}' for model '{model}', allowed {kind}s are: "
            + ", ".join(sorted(infos))
        )
    if data_type not in TRITON_TYPES.values():
        raise ConfigError(
            f"unsupported datatype {data_type} for {kind} '{name}' for model '{model}'"
        )
    if data_type != info.data_type:
        raise ConfigError(
            f"unable to load model '{model}', configuration expects datatype {data_type} for "
            f"{kind} '{name}', model provides {info.data_type}"
        )
    if not dims:
        return
    reshape = io.get("reshape")
    given = tuple(int(dim) for dim in (io["dims"] if reshape is None else reshape["shape"]))
    batched = config["max_batch_size"] > 0
    if not info.dims and not batched:
        if any(dim != 1 for dim in given):
            raise ConfigError(
                f"unable to load model '{model}', scalar tensor '{name}', should only provide 1 in "
                "the model configuration when the model doesn't support batching. Model "
                f"configuration provided: {_shape(given)}."
            )
        return
    _check_dims(model, info, given, batched=batched, exact=kind == "output")


def _check_dims(
    model: str, info: TensorInfo, dims: tuple[int, ...], *, batched: bool, exact: bool
) -> None:
    """`CompareDimsSupported`: a fixed dim of the graph must be the config's, and where `exact`
    (outputs) a varying one must be -1 in the config too."""
    where = f"model '{model}', tensor '{info.name}'"
    if batched and info.dims[:1] != (-1,):
        raise ConfigError(
            f"{where}: for the model to support batching the shape should have at least 1 "
            "dimension and the first dimension must be -1; but shape expected by the model is "
            + _shape(info.dims)
        )
    full = (-1, *dims) if batched else dims
    fits = len(full) == len(info.dims) and all(
        ours == theirs or (theirs == -1 and not exact)
        for ours, theirs in zip(full, info.dims, strict=True)
    )
    if not fits:
        how = (
            f"{len(full)} dimensions (an initial batch dimension because max_batch_size > 0 "
            f"followed by the explicit tensor shape, making complete shape {_shape(full)})"
            if batched
            else f"{len(full)} dimensions (shape {_shape(full)})"
        )
        raise ConfigError(
            f"{where}: the model expects {len(info.dims)} dimensions (shape {_shape(info.dims)}) "
            f"but the model configuration specifies {how}"
        )


def _shape(dims: tuple[int, ...]) -> str:
    return "[" + ",".join(str(dim) for dim in dims) + "]"
