"""The spec of an artifact's numbers: precision, fusions, calibration, what they may cost."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from builder.spec.batching import PositiveInt, Strict
from builder.spec.models import Tolerance

ArtifactPrecision = Literal["fp32", "fp16", "bf16", "int8-dynamic", "int8-static", "int4"]
Optimization = Literal["none", "O1", "O2", "O3", "O4", "tuned"]
CalibrationMethod = Literal["minmax", "entropy", "percentile"]

# What rounding does to a graph without defects, with room: measured on MiniLM and on the shapes of
# `make bench-models` (docs/tasks.md). The cosine does not depend on the scale of an output, so it
# is what binds; the absolute error is there to catch a graph that is scaled or overflows.
DEFAULT_TOLERANCES: Final[dict[ArtifactPrecision, Tolerance]] = {
    "fp16": Tolerance(max_abs_error=0.1, min_cosine=0.999),
    "bf16": Tolerance(max_abs_error=0.5, min_cosine=0.999),
    "int8-dynamic": Tolerance(max_abs_error=2.0, min_cosine=0.99),
    "int8-static": Tolerance(max_abs_error=2.0, min_cosine=0.99),
    "int4": Tolerance(max_abs_error=4.0, min_cosine=0.95),
}


class Calibration(Strict):
    """How the ranges of activations are found for int8-static."""

    data: str = Field(
        min_length=1,
        description='JSON lines, relative to the spec file: {"text": ...}, or an array for each '
        "input of the graph, without the batch dim.",
    )
    method: CalibrationMethod = Field(
        default="minmax",
        description="minmax: all that is seen; entropy: least Kullback-Leibler divergence; "
        "percentile: all but the outermost values.",
    )
    samples: PositiveInt = Field(default=256, description="Lines that are used, from the first.")
    percentile: Annotated[float, Field(gt=50, le=100)] = Field(
        default=99.99, description="Share of the values inside the range, for percentile."
    )


class Precision(Strict):
    """The numbers that a graph is kept in and computes with."""

    precision: ArtifactPrecision | Literal["auto"] = Field(
        default="fp32",
        description="auto measures the candidates on this machine and takes the fastest within "
        "its tolerance. fp16 on cpu and bf16 halve the file and compute in fp32; int8 and int4 are "
        "for cpu.",
    )
    optimize: Optimization = Field(
        default="tuned",
        description="Fusions: O1 to O4 as optimum defines them (O4 goes with precision fp16); "
        "tuned: O2, but for the fusions that ONNX Runtime's CPU kernels make slower.",
    )
    calibration: Calibration | None = None
    evaluation: str | None = Field(
        default=None,
        min_length=1,
        description='JSON lines with a "label" each; the accuracy of every candidate is measured.',
    )
    max_accuracy_drop: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.01, description="Accuracy that auto may give away, where it is measured."
    )
    tolerances: dict[ArtifactPrecision, Tolerance] = Field(
        default_factory=dict,
        description="How far from the checkpoint each precision may be, instead of its default; "
        "fp32 has the spec's own `tolerance`.",
    )
    reduce_range: bool = Field(
        default=False,
        description="int8 weights of 7 bits. Not needed for processors without VNNI: 8-bit weights "
        "are scaled so that no sum of two products saturates there.",
    )
    block_size: Literal[16, 32, 64, 128] = Field(
        default=32, description="int4: values that share a scale."
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> "Precision":
        if self.precision == "int8-static" and self.calibration is None:
            raise ValueError(
                "precision int8-static needs calibration.data: a file of JSON lines with texts as "
                "they will be served"
            )
        if self.optimize == "O4" and self.precision != "fp16":
            raise ValueError("optimize O4 is O3 in fp16; set precision: fp16 with it")
        if "fp32" in self.tolerances:
            raise ValueError("tolerances.fp32: the spec's own key 'tolerance' is for fp32")
        return self

    def tolerance(self, precision: ArtifactPrecision, exact: Tolerance) -> Tolerance:
        """What a precision may be off; `exact` is for fp32."""
        if precision == "fp32":
            return exact
        default = DEFAULT_TOLERANCES[precision]
        given = self.tolerances.get(precision)
        # What a spec does not say keeps the precision's own default.
        return default.model_copy(update=given.model_dump(exclude_unset=True)) if given else default
