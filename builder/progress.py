"""What a build tells the one who waits for it."""

from typing import Protocol


class Progress(Protocol):
    """Told what a build does; shows nothing of what a subclass leaves out."""

    def start(self, steps: int) -> None:
        """The number of steps that follow."""

    def step(self, text: str) -> None:
        """A step begins."""

    def detail(self, text: str) -> None:
        """How far the step is, in its own words."""
