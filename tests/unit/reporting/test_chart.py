"""Charts: lengths and places stand for the values."""

import math
from xml.etree import ElementTree

import pytest

from builder.report.chart import Panel, chart

SVG = "{http://www.w3.org/2000/svg}"


def widths(svg: str) -> list[float]:
    rects = list(ElementTree.fromstring(svg).iter(f"{SVG}rect"))
    return [float(r.attrib["width"]) for r in rects if "bar" in r.attrib.get("class", "")]


def places(svg: str) -> list[float]:
    return [float(c.attrib["cx"]) for c in ElementTree.fromstring(svg).iter(f"{SVG}circle")]


def test_bars_are_as_long_as_their_values() -> None:
    found = widths(chart(["a", "b", "c"], [Panel("t", [4.0, 2.0, None], ["4", "2", "none"])]))
    assert found[0] == pytest.approx(2 * found[1], rel=0.01)
    assert found[2] < 1


def test_a_power_of_ten_is_a_step_of_the_same_length() -> None:
    values = [1e-6, 1e-4, 1e-2]
    first, second, third = places(
        chart(["a", "b", "c"], [Panel("t", values, ["", "", ""], logarithmic=True)])
    )
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert first < second


@pytest.mark.parametrize("values", [[0.0, 0.0], [0.0, 1e-3], [math.inf, 1e-3], [1.0, 1.0]])
def test_zero_and_infinite_errors_stay_on_the_chart(values: list[float]) -> None:
    svg = chart(["a", "b"], [Panel("t", values, ["", ""], [1e-3, 1e-3], logarithmic=True)])
    assert all(0 <= place <= 250 for place in places(svg))


def test_nothing_to_draw_is_an_empty_chart() -> None:
    assert widths(chart([], [Panel("t", [], [])])) == []
