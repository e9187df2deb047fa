"""The engine's numbers, and how they reach Triton's metrics endpoint."""

import time
from dataclasses import dataclass
from typing import Any

_PERIOD = 0.25
"""Seconds between two updates while requests run: a metric is a message to the server."""


@dataclass
class BatcherStats:
    """State and totals of an engine.

    Attributes:
        running: Requests in the batch or in prefill.
        waiting: Requests without a slot.
        blocks_used: Blocks of the KV cache that are taken.
        blocks_total: Blocks that there are.
        tokens: Tokens generated.
        steps: Decode steps.
        finished: Requests answered, the cut-off and failed ones included.
        cancelled: Requests that were cut off.
        preempted: Times that a request gave its blocks back.
        drafted: Tokens guessed ahead.
        accepted: Those of them that were right.
    """

    running: int = 0
    waiting: int = 0
    blocks_used: int = 0
    blocks_total: int = 0
    tokens: int = 0
    steps: int = 0
    finished: int = 0
    cancelled: int = 0
    preempted: int = 0
    drafted: int = 0
    accepted: int = 0


_GAUGES = {
    "running": "Requests that are answered now",
    "waiting": "Requests that wait for a slot",
    "blocks_used": "Blocks of the KV cache in use",
    "blocks_total": "Blocks of the KV cache",
    "tokens_per_second": "Tokens generated a second, since the last update",
}
_COUNTERS = {
    "tokens": "Tokens generated",
    "steps": "Decode steps",
    "cancelled": "Requests cut off by their client or their deadline",
    "preempted": "Times that a request gave its cache to older ones",
    "drafted": "Tokens guessed ahead",
    "accepted": "Guessed tokens that were right",
    "finished": "Requests answered",  # last: who sees it change sees the others' change too
}


class TritonMetrics:
    """`language_*` metrics, labelled with the model's name."""

    def __init__(self, pb_utils: Any, model: str) -> None:
        """Register the families.

        Args:
            pb_utils: Triton's module.
            model: The model's name.
        """
        self._families: list[Any] = []
        self._metrics: dict[str, Any] = {}
        for kind, entries in (
            (pb_utils.MetricFamily.GAUGE, _GAUGES),
            (pb_utils.MetricFamily.COUNTER, _COUNTERS),
        ):
            for name, text in entries.items():
                suffix = "_total" if entries is _COUNTERS else ""
                family = pb_utils.MetricFamily(f"language_{name}{suffix}", text, kind)
                self._families.append(family)  # a metric dies with its family
                self._metrics[name] = family.Metric(labels={"model": model})
        self._sent: dict[str, float] = dict.fromkeys(self._metrics, 0.0)
        self._updated = time.monotonic()

    def __call__(self, stats: BatcherStats) -> None:
        """Send what changed; now and then while requests run, at once when the last one ended."""
        now = time.monotonic()
        passed = now - self._updated
        if passed < _PERIOD and (stats.running or stats.waiting):
            return
        rate = (stats.tokens - self._sent["tokens"]) / passed if passed > 0 else 0.0
        values = {name: float(getattr(stats, name, rate)) for name in self._metrics}
        for name, value in values.items():
            change = value - self._sent[name]
            if not change:
                continue
            if name in _COUNTERS:
                self._metrics[name].increment(change)
            else:
                self._metrics[name].set(value)
        self._sent, self._updated = values, now
