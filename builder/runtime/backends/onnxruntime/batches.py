"""Ragged batches: inputs of unequal shapes in one run, and the tensors that tell them apart.

As Triton's own backends do it: https://github.com/triton-inference-server/backend
(src/backend_input_collector.cc `ProcessBatchInput`, src/backend_output_responder.cc
`ProcessBatchOutput`) and
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/ragged_batching.md
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

_DTYPES = {"TYPE_INT32": np.int32, "TYPE_FP32": np.float32}


def _items(sources: Sequence[NDArray[Any]]) -> list[list[int]]:
    """The shape of every item of a batch, without its batch dim."""
    return [list(source.shape[1:]) for source in sources for _ in range(source.shape[0])]


def _sizes(sources: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.array([source.size for source in sources])


_KINDS: Mapping[str, Callable[[Sequence[NDArray[Any]]], Any]] = {
    "BATCH_ELEMENT_COUNT": _sizes,
    "BATCH_ACCUMULATED_ELEMENT_COUNT": lambda sources: np.cumsum(_sizes(sources)),
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO": lambda sources: np.cumsum([0, *_sizes(sources)]),
    # Only its shape counts; the native backend leaves the values as they are in memory.
    "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE": lambda sources: np.zeros(_sizes(sources).max()),
    "BATCH_ITEM_SHAPE": _items,
    "BATCH_ITEM_SHAPE_FLATTEN": lambda sources: np.ravel(_items(sources)),
}
"""Kind of a `batch_input` -> its values, from one input of every request."""


@dataclass(frozen=True)
class Batches:
    """What a config says of ragged batches.

    Attributes:
        ragged: Inputs whose values are joined flat, one request after the other.
        made: The entries of `batch_input`.
        scattered: Output -> the input whose shape each part has, and the output's own dims.
    """

    ragged: frozenset[str]
    made: tuple[Mapping[str, Any], ...]
    scattered: Mapping[str, tuple[str, tuple[int, ...]]]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Batches":
        """Read a model config."""
        dims = {io["name"]: tuple(int(dim) for dim in io["dims"]) for io in config["output"]}
        return cls(
            ragged=frozenset(io["name"] for io in config["input"] if io.get("allow_ragged_batch")),
            made=tuple(config.get("batch_input", ())),
            scattered={
                name: (entry["source_input"][0], dims[name])
                for entry in config.get("batch_output", ())
                for name in entry["target_name"]
            },
        )

    def names(self) -> set[str]:
        """Inputs of the graph that no request has."""
        return {name for entry in self.made for name in entry["target_name"]}

    def feed(self, requests: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
        """The graph's inputs for one run.

        Args:
            requests: The inputs of each request, with a batch dim; all have the same names.
        """
        feed: dict[str, NDArray[Any]] = {}
        for name in requests[0]:
            parts = [request[name] for request in requests]
            if name in self.ragged:
                feed[name] = np.concatenate([part.reshape(-1) for part in parts])
            else:
                feed[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        for entry in self.made:
            sources = [request[entry["source_input"][0]] for request in requests]
            values = np.asarray(_KINDS[entry["kind"]](sources), _DTYPES[entry["data_type"]])
            feed.update(dict.fromkeys(entry["target_name"], values))
        return feed

    def scatter(self, name: str, array: NDArray[Any], requests: Sequence[Arrays]) -> list[Any]:
        """An output of the whole batch, cut into the part of each request.

        Raises:
            ValueError: the parts need more values than there are.
        """
        source, dims = self.scattered[name]
        shapes = [
            tuple(
                given if dim == -1 else dim
                for dim, given in zip((-1, *dims), request[source].shape, strict=True)
            )
            for request in requests
        ]
        sizes = [math.prod(shape) for shape in shapes]
        if sum(sizes) > array.size:
            raise ValueError(
                f"output '{name}' has {array.size} values, the requests of its batch {sum(sizes)}"
            )
        ends = np.cumsum([0, *sizes])
        flat = array.reshape(-1)
        return [flat[ends[i] : ends[i + 1]].reshape(shape) for i, shape in enumerate(shapes)]
