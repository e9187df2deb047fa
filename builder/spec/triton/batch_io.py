"""`batch_input` and `batch_output`: tensors about a batch, for models that take ragged ones."""

from typing import Literal

from pydantic import Field

from builder.spec.base import Strict


class BatchInput(Strict):
    """An input that Triton's backends compute from the requests of a batch."""

    kind: Literal[
        "BATCH_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
        "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
        "BATCH_ITEM_SHAPE",
        "BATCH_ITEM_SHAPE_FLATTEN",
    ]
    target_name: list[str] = Field(min_length=1, description="Inputs of the graph that get it.")
    data_type: Literal["INT32", "FP32"] = "INT32"
    source_input: list[str] = Field(
        min_length=1, max_length=1, description="The input that it is computed from."
    )


class BatchOutput(Strict):
    """An output that is one long tensor, cut into responses."""

    target_name: list[str] = Field(min_length=1, description="Outputs that are cut.")
    kind: Literal["BATCH_SCATTER_WITH_INPUT_SHAPE"] = "BATCH_SCATTER_WITH_INPUT_SHAPE"
    source_input: list[str] = Field(
        min_length=1, max_length=1, description="The input whose shape each part has."
    )
