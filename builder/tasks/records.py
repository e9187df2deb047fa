"""A user's data file, and what its lines are to a graph."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from builder.errors import SpecError
from builder.render.model_config import Tensor
from builder.tasks.task import Arrays, Graph, Task
from builder.tasks.text import TextTask

Record = Mapping[str, Any]

_DTYPES = {"INT64": np.int64, "INT32": np.int32, "FP32": np.float32, "UINT8": np.uint8}


def read_records(path: Path) -> Iterator[Record]:
    """The lines of a JSON Lines file; empty ones are skipped.

    Raises:
        SpecError: no such file, or a line that is no JSON object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise SpecError(f"{path}:{number}: not JSON: {error}") from error
                if not isinstance(record, dict):
                    raise SpecError(f'{path}:{number}: not an object such as {{"text": "..."}}')
                yield record
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 text") from error
    except OSError as error:
        raise SpecError(f"{path}: can't be read: {error.strerror}") from error


def _text_arrays(task: TextTask, graph: Graph, record: Record) -> Arrays:
    row = task.encoder().encoding(str(record["text"]), record.get("text_pair"))
    values = {
        "input_ids": row.ids,
        "attention_mask": [1] * len(row.ids),
        "token_type_ids": row.type_ids,
    }
    # Every dim but the last, the sequence, is 1: the batch, and windows where there are any.
    return {
        tensor.name: np.array(values[tensor.name], np.int64).reshape(
            *[1] * len(tensor.dims), len(row.ids)
        )
        for tensor in graph.inputs
    }


def _given(tensor: Tensor, value: Any) -> NDArray[Any]:
    array = np.asarray(value, dtype=_DTYPES[tensor.data_type])[None]
    if array.ndim != len(tensor.dims) + 1:
        raise ValueError(f"{tensor.name} has {array.ndim - 1} dims, not {len(tensor.dims)}")
    return array


def inputs_of(task: Task, graph: Graph, record: Record, path: Path) -> Arrays:
    """One record as a batch of one, without padding.

    Args:
        task: Makes tensors of a text.
        graph: What takes them.
        record: `text` (and `text_pair`), or an array for each input of the graph.
        path: For the error.

    Raises:
        SpecError: neither a text nor the graph's inputs.
    """
    if isinstance(task, TextTask) and "text" in record:
        return _text_arrays(task, graph, record)
    try:
        return {tensor.name: _given(tensor, record[tensor.name]) for tensor in graph.inputs}
    except KeyError as error:
        names = ", ".join(tensor.name for tensor in graph.inputs)
        raise SpecError(f"{path}: a line has no 'text' and no {error}; wanted: {names}") from error
    except (TypeError, ValueError) as error:
        raise SpecError(f"{path}: a line does not fit the graph: {error}") from error


def accuracy_of(task: Task, graph: Graph, data: Path, artifact: Path) -> float:
    """Share of labelled records whose label has the largest output.

    Args:
        task: The task.
        graph: Its first output is [1, labels].
        data: JSON lines with `label`, a number or a name of the checkpoint.
        artifact: The ONNX file.

    Raises:
        SpecError: the data does not fit the task.
    """
    if len(graph.outputs[0].dims) != 1:
        raise SpecError(
            f"evaluation: {graph.name} gives {graph.outputs[0].name} of "
            f"{len(graph.outputs[0].dims)} dims; accuracy is of tasks with one label a record"
        )
    names = task.files.config.label2id
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
    right = total = 0
    for record in read_records(data):
        label = record.get("label")
        wanted = names.get(label) if isinstance(label, str) else label
        if not isinstance(wanted, int):
            raise SpecError(f"{data}: label {label!r} is none of the checkpoint's")
        scores = session.run([graph.outputs[0].name], dict(inputs_of(task, graph, record, data)))[0]
        right += int(scores[0].argmax() == wanted)
        total += 1
    if not total:
        raise SpecError(f"{data}: holds no records")
    return right / total
