from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from builder.optimize.choice import WORTH, choose
from builder.optimize.variants import Variant
from builder.spec.models import Tolerance
from builder.spec.precision import ArtifactPrecision
from builder.verify.measure import ParityRow

TOLERANCE = Tolerance(max_abs_error=1.0, min_cosine=0.99)
OTHERS: tuple[ArtifactPrecision, ...] = ("int8-dynamic", "int8-static", "int4", "bf16")


def variant(
    precision: ArtifactPrecision,
    *,
    error: float = 0.0,
    cosine: float = 1.0,
    speed: float = 1.0,
    accuracy: float | None = None,
    failure: str | None = None,
) -> Variant:
    row = ParityRow("m", "y", 1, error, cosine, TOLERANCE)
    return Variant(precision, Path("m"), 1, [row], 1.0, speed, accuracy=accuracy, failure=failure)


candidate = st.builds(
    variant,
    st.just("int4"),
    error=st.floats(0, 2),
    cosine=st.floats(0.97, 1),
    speed=st.floats(0.1, 5),
    accuracy=st.floats(0.8, 1.0),
    failure=st.sampled_from([None, None, None, "no kernel"]),
)


@given(st.lists(candidate, max_size=4), st.floats(0.8, 1.0), st.floats(0, 0.2))
def test_the_fastest_within_its_tolerance(
    found: list[Variant], accuracy: float, drop: float
) -> None:
    others = [
        Variant(**{**vars(v), "precision": name}) for v, name in zip(found, OTHERS, strict=False)
    ]
    exact = variant("fp32", accuracy=accuracy)
    choice = choose([exact, *others], drop)

    def able(v: Variant) -> bool:
        kept = v.accuracy is None or accuracy - v.accuracy <= drop
        return v.failure is None and v.within and kept and v.speed >= WORTH

    fastest = max((v.speed for v in others if able(v)), default=None)
    if fastest is None:
        assert choice.variant is exact
    else:
        assert able(choice.variant) and choice.variant.speed == fastest
    assert choice.reason.startswith(choice.variant.precision) and choice.reason.endswith(".")
    for other in others:
        assert other.precision in choice.reason


def test_the_reason_names_what_is_over_its_tolerance() -> None:
    slow = variant("int8-dynamic", speed=1.01)
    off = variant("int4", cosine=0.9, speed=4.0)
    choice = choose([variant("fp32"), slow, off])
    assert choice.reason == (
        "fp32: int8-dynamic is 1.01 times as fast; int4 is over its tolerance "
        "(cosine 0.9000, at least 0.99)."
    )


def test_accuracy_that_is_lost_rules_out() -> None:
    exact, fast = variant("fp32", accuracy=0.95), variant("int4", speed=3.0, accuracy=0.9)
    assert choose([exact, fast], 0.01).variant is exact
    assert choose([exact, fast], 0.06).variant is fast
