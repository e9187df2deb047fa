"""Implicit state: outputs of a request that are inputs of the next one of its sequence.

A Python-based backend can't give a state to Triton, which hands every request the initial one;
so the states are kept here. A sequence meets one instance only, and an instance is a process.
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/implicit_state_management.md
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

_DEFAULT_IDLE_SECONDS = 1.0
_GRACE_SECONDS = 60.0
"""How much longer than Triton a sequence is remembered here: time in queues counts too."""


class States:
    """The states of every sequence that an instance has open."""

    def __init__(
        self, config: Mapping[str, Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read a model config.

        Args:
            config: The config.
            clock: Seconds.
        """
        batching = config.get("sequence_batching", {})
        self._pairs = {s["input_name"]: s["output_name"] for s in batching.get("state", ())}
        idle = int(batching.get("max_sequence_idle_microseconds", 0)) / 1e6
        self._idle = (idle or _DEFAULT_IDLE_SECONDS) + _GRACE_SECONDS
        self._clock = clock
        self._kept: dict[Any, tuple[float, dict[str, NDArray[Any]]]] = {}

    @property
    def inputs(self) -> set[str]:
        """Inputs of the graph that no request has."""
        return set(self._pairs)

    @property
    def outputs(self) -> set[str]:
        """Outputs of the graph that are states."""
        return set(self._pairs.values())

    def fill(self, sequence: Any, inputs: dict[str, NDArray[Any]], *, start: bool) -> None:
        """Put the states of a sequence into the inputs of its request, in place.

        Args:
            sequence: Its correlation id.
            inputs: What Triton gives, the initial states among it.
            start: Whether the sequence begins, with the initial states.
        """
        kept = None if start else self._kept.get(sequence)
        if kept is not None:
            inputs.update(kept[1])

    def keep(self, sequence: Any, outputs: Mapping[str, NDArray[Any]], *, end: bool) -> None:
        """Keep the states that a request leaves, or forget its sequence where it ends."""
        if not self._pairs or not sequence:
            return  # without an id: what Triton fills a free place in a batch with
        now = self._clock()
        self._kept.pop(sequence, None)
        if not end:
            states = {name: outputs[output].copy() for name, output in self._pairs.items()}
            self._kept[sequence] = (now, states)
        # The oldest stand first: whatever is kept again is put at the end.
        while self._kept and now - next(iter(self._kept.values()))[0] > self._idle:
            self._kept.pop(next(iter(self._kept)))
