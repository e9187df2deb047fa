"""Times of steps."""

from builder.report import StepTimes


class Shown:
    def __init__(self) -> None:
        self.told: list[object] = []

    def start(self, steps: int) -> None:
        self.told.append(steps)

    def step(self, text: str) -> None:
        self.told.append(text)

    def detail(self, text: str) -> None:
        self.told.append(("detail", text))


def test_steps_are_timed_and_handed_on() -> None:
    shown = Shown()
    times = StepTimes(shown)
    times.start(2)
    times.step("a")
    times.step("b")
    times.detail("half")
    assert shown.told == [2, "a", "b", ("detail", "half")]
    assert [text for text, _ in times.seconds()] == ["a", "b"]
    assert all(seconds >= 0 for _, seconds in times.seconds())
