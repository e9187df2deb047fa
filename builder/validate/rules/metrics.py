"""`model_metrics` and `metric_tags`."""

import re
from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "metrics"
_TAG = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_]*)?")


@rule(
    "metrics.tag",
    section=_SECTION,
    reason="Triton makes a label of the key, with _ in front; of one that Prometheus does not take "
    "the whole server dies",
    source="metrics",
)
def tags_are_labels(model: Model) -> Iterator[Problem]:
    """A key of `metric_tags` is letters, digits and, not in front, underscores."""
    for key in sorted(model.config.metric_tags):
        if not _TAG.fullmatch(key):
            yield Problem(
                f'metric_tags["{key}"]',
                f"the metric tag {key!r} is no name of a Prometheus label, and ends the whole "
                "tritonserver",
                "use letters, digits and, not in front, underscores",
            )


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
