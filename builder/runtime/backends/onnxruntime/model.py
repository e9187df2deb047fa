"""A Triton backend that runs ONNX models through the onnxruntime wheel.

A Python-based backend of the name of Triton's native one: a server without the native C++
backend serves the same `<model>/<version>/model.onnx` and `config.pbtxt`, unchanged.
A BF16 tensor neither of them serves. Instances are processes, so they cannot share a session.
Strings must be UTF-8.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .batches import Batches
    from .settings import SettingError, Settings, read_settings
    from .signature import ConfigError, Signature
    from .states import States
else:  # Triton imports this file as the top-level module `model`, from its own folder.
    from batches import Batches
    from settings import SettingError, Settings, read_settings
    from signature import ConfigError, Signature
    from states import States

Tensors = dict[str, NDArray[Any]]

_ORT_ERROR = re.compile(r"^\[ONNXRuntimeError\] : (?P<code>\d+) : \w+ : (?P<text>.*)$", re.DOTALL)
_OUTSIDE = re.compile(
    r"ind(?:ices element|ex) out of (?:data )?bounds,? idx=(?P<index>-?\d+) must be within the "
    r"inclusive range \[-?\d+,(?P<last>-?\d+)\]"
)
"""How its operators say that an input holds an index (a token id, a position) beyond a table."""


class _RequestError(Exception):
    """A request that cannot be run, whatever else is in its batch."""


@dataclass(frozen=True)
class _Job:
    """One request, read."""

    index: int
    inputs: Tensors
    outputs: tuple[str, ...]
    """Requested names, in the order of the graph."""
    sequence: Any = 0
    """Correlation id; 0: none."""
    ends: bool = False
    """Whether its sequence ends."""

    def batch_size(self) -> int:
        return int(next(iter(self.inputs.values())).shape[0])


class TritonPythonModel:
    """One instance of a model; Triton calls these methods by name."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Fill inputs, outputs, max_batch_size and scheduler from the graph where missing."""
        # ModelConfig.add_input knows no `reshape`, which a scalar in a batch needs: fill the
        # dict that Triton reads back.
        config: dict[str, Any] = auto_complete_model_config.as_dict()
        if config.get("input") and config.get("output"):
            return auto_complete_model_config
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        session = _open(
            _model_file(config, Path(pb_utils.get_model_dir())),
            config["name"],
            options,
            ["CPUExecutionProvider"],
        )
        try:
            Signature.of(session).complete(config)
        except ConfigError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        return auto_complete_model_config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the session; a model that cannot be served fails here, with the reason."""
        config: dict[str, Any] = json.loads(args["model_config"])
        name = config["name"]
        logger = pb_utils.Logger
        try:
            self._settings: Settings = read_settings(
                config,
                kind=args["model_instance_kind"],
                device_id=int(args["model_instance_device_id"]),
                warn=lambda text: logger.log_warn(f"model '{name}': {text}"),
            )
        except SettingError as error:
            raise pb_utils.TritonModelException(f"unable to load model '{name}', {error}") from None
        folder = Path(args["model_repository"]) / args["model_version"]
        self._session = _open(
            _model_file(config, folder), name, self._settings.session, self._settings.providers
        )
        try:
            signature = Signature.of(self._session)
            signature.check(config)
        except ConfigError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self._batched = config["max_batch_size"] > 0
        self._batches = Batches.of(config)
        self._states = States(config)
        self._output_names = [io["name"] for io in config["output"]]
        self._run_names = list(dict.fromkeys((*self._output_names, *sorted(self._states.outputs))))
        inputs = {**signature.inputs, **signature.optional}
        self._strings = {key for key, info in inputs.items() if info.data_type == "TYPE_STRING"}
        self._scalars = {key for key, info in inputs.items() if not info.dims}
        # A scalar output of a model without batches has the dims that the config gives it.
        self._scalar_outputs = {
            io["name"]: tuple(int(dim) for dim in io["dims"])
            for io in config["output"]
            if not signature.outputs[io["name"]].dims
        }
        logger.log_verbose(f"model '{name}': providers {self._session.get_providers()}")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer every request; those of equal shapes share one run of the session."""
        responses: list[Any] = [None] * len(requests)
        groups: dict[Any, list[_Job]] = {}
        for index, request in enumerate(requests):
            try:
                job = self._read(index, request)
            except _RequestError as error:
                responses[index] = _error(str(error), pb_utils.TritonError.INVALID_ARG)
                continue
            groups.setdefault(self._group_key(job), []).append(job)
        for jobs in groups.values():
            self._run_group(jobs, responses)
        return responses

    def finalize(self) -> None:
        """Close the session."""
        del self._session

    def _read(self, index: int, request: Any) -> _Job:
        inputs: Tensors = {}
        for tensor in request.inputs():
            name = tensor.name()
            array = tensor.as_numpy()
            if name in self._strings:
                array = _decode(name, array)
            if name in self._scalars and not self._batched:
                array = array.reshape(())
            inputs[name] = array
        requested = set(request.requested_output_names())
        outputs = tuple(n for n in self._output_names if n in requested)
        if not self._states.inputs:
            return _Job(index, inputs, outputs)
        sequence, flags = request.correlation_id(), request.flags()
        start = bool(flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START)
        self._states.fill(sequence, inputs, start=start)
        ends = bool(flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END)
        return _Job(index, inputs, outputs, sequence, ends)

    def _group_key(self, job: _Job) -> Any:
        if not self._batched:
            return job.index
        ragged = self._batches.ragged
        return tuple(
            sorted(
                (name, array.shape[1:]) for name, array in job.inputs.items() if name not in ragged
            )
        )

    def _run_group(self, jobs: Sequence[_Job], responses: list[Any]) -> None:
        try:
            answers = self._run(jobs)
        except Exception as error:
            if len(jobs) == 1:
                responses[jobs[0].index] = _error(*_judged(error))
                return
            for job in jobs:  # find the culprit; its batch mates get their answers
                self._run_group([job], responses)
            return
        for job, tensors in zip(jobs, answers, strict=True):
            responses[job.index] = pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, array) for name, array in tensors.items()]
            )

    def _run(self, jobs: Sequence[_Job]) -> list[Tensors]:
        """Run the session once; what each job asked for, as views into the run's outputs."""
        asked = {name for job in jobs for name in job.outputs} | self._states.outputs
        names = [name for name in self._run_names if name in asked]
        if not names:
            return [{} for _ in jobs]
        feed = self._batches.feed([job.inputs for job in jobs])
        arrays = dict(zip(names, self._session.run(names, feed, self._settings.run), strict=True))
        for name, dims in self._scalar_outputs.items():
            if name in arrays:
                arrays[name] = np.reshape(arrays[name], dims)
        parts = {name: self._parts(name, array, jobs) for name, array in arrays.items()}
        answers = []
        for place, job in enumerate(jobs):
            own = {name: each[place] for name, each in parts.items()}
            self._states.keep(job.sequence, own, end=job.ends)
            answers.append({name: own[name] for name in job.outputs})
        return answers

    def _parts(
        self, name: str, array: NDArray[Any], jobs: Sequence[_Job]
    ) -> Sequence[NDArray[Any]]:
        """What each job gets of an output, as views into it."""
        if name in self._batches.scattered:
            return self._batches.scatter(name, array, [job.inputs for job in jobs])
        if len(jobs) == 1:
            return [array]
        sizes = [job.batch_size() for job in jobs]
        if array.shape[:1] != (sum(sizes),):
            raise _RequestError(
                f"output '{name}' has shape {list(array.shape)} for a batch of {sum(sizes)}: "
                "the model does not keep the batch dim"
            )
        ends = np.cumsum([0, *sizes])
        return [array[ends[place] : ends[place + 1]] for place in range(len(jobs))]


def _model_file(config: Mapping[str, Any], folder: Path) -> Path:
    path = folder / (config.get("default_model_filename") or "model.onnx")
    return path / "model.onnx" if path.is_dir() else path


def _open(path: Path, model: str, options: Any, providers: Sequence[Any]) -> Any:
    if not path.exists():
        raise pb_utils.TritonModelException(f"unable to find '{path}' for model instance '{model}'")
    try:
        return ort.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:
        raise pb_utils.TritonModelException(
            f"unable to load model '{model}', {_explain(error)}"
        ) from None


def _explain(error: Exception) -> str:
    """ONNX Runtime's message in the native backend's words."""
    found = _ORT_ERROR.match(str(error))
    if found is None:
        return str(error)
    text = found["text"]
    if "Unsupported model IR version" in text:
        text += f" (onnxruntime {ort.__version__}: export the model with an older IR version)"
    return f"onnx runtime error {found['code']}: {text}"


def _judged(error: Exception) -> tuple[str, Any]:
    """Why a run failed, and whose fault it was."""
    text = _explain(error)
    found = _OUTSIDE.search(text)
    if found is None:
        return text, pb_utils.TritonError.INTERNAL
    last = int(found["last"])
    known = f"the model knows 0 to {last}" if last >= 0 else "the model knows none"
    return f"an input holds the index {found['index']}; {known}", pb_utils.TritonError.INVALID_ARG


def _error(text: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))


def _decode(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Bytes -> str, which is what ONNX Runtime takes."""
    try:
        texts = [item.decode() if isinstance(item, bytes) else item for item in array.flat]
    except UnicodeDecodeError as error:
        raise _RequestError(
            f"input '{name}' has a string that is not UTF-8 at byte {error.start}"
        ) from None
    return np.array(texts, dtype=object).reshape(array.shape)
