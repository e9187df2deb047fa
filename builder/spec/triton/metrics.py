"""`model_metrics`: buckets of a model's histograms."""

from typing import Annotated

from pydantic import Field, field_validator

from builder.spec.base import Strict


class MetricIdentifier(Strict):
    """Which metric."""

    family: str = Field(
        min_length=1, description="For instance nv_inference_first_response_histogram_ms."
    )


class HistogramOptions(Strict):
    """Upper bounds of a histogram's buckets."""

    buckets: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(min_length=1)

    @field_validator("buckets")
    @classmethod
    def _ascending(cls, buckets: list[float]) -> list[float]:
        if buckets != sorted(set(buckets)):
            raise ValueError("must ascend, each bound once")
        return buckets


class MetricControl(Strict):
    """Settings of one metric."""

    metric_identifier: MetricIdentifier
    histogram_options: HistogramOptions


class ModelMetrics(Strict):
    """Metrics of the model that differ from the server's."""

    metric_control: list[MetricControl] = Field(min_length=1)
