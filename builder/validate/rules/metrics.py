"""`model_metrics` and `metric_tags`."""

from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "metrics"


@rule(
    "metrics.family",
    section=_SECTION,
    reason="the settings are those of one metric family",
    source="config",
)
def controls_name_a_family(model: Model) -> Iterator[Problem]:
    """Every `metric_control` names a family."""
    for index, control in enumerate(model.config.model_metrics.metric_control):
        if not control.metric_identifier.family:
            yield Problem(
                f"model_metrics.metric_control[{index}].metric_identifier",
                f"metric_control[{index}] names no metric family",
                'write metric_identifier { family: "nv_inference_first_response_histogram_ms" }',
            )


@rule(
    "metrics.buckets",
    section=_SECTION,
    reason="a histogram has buckets",
    source="config",
)
def histograms_have_buckets(model: Model) -> Iterator[Problem]:
    """Every `metric_control` has histogram buckets."""
    for index, control in enumerate(model.config.model_metrics.metric_control):
        if not control.histogram_options.buckets:
            yield Problem(
                f"model_metrics.metric_control[{index}].histogram_options",
                f"metric_control[{index}] has no buckets",
                "write histogram_options { buckets: [ ... ] }",
            )
