"""How long each step of a build took."""

import time

from builder.progress import Progress


class StepTimes:
    """A build's progress that hands everything on and keeps the time."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._steps: list[tuple[str, float]] = []

    def start(self, steps: int) -> None:
        """The number of steps that follow."""
        self._shown.start(steps)

    def step(self, text: str) -> None:
        """A step begins, and the one before it ends."""
        self._steps.append((text, time.perf_counter()))
        self._shown.step(text)

    def detail(self, text: str) -> None:
        """How far the step is."""
        self._shown.detail(text)

    def seconds(self) -> list[tuple[str, float]]:
        """Steps and how long each took, the last one until now."""
        ends = [begun for _, begun in self._steps[1:]] + [time.perf_counter()]
        pairs = zip(self._steps, ends, strict=True)
        return [(text, end - begun) for (text, begun), end in pairs]
