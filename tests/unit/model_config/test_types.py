"""The spec's types against Triton's proto: no field is missing, none has another name."""

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from pydantic import BaseModel, ValidationError
from tritonclient.grpc import model_config_pb2 as pb

from builder.spec.triton import (
    BatchInput,
    BatchOutput,
    DynamicBatching,
    EnsembleSettings,
    InstanceGroup,
    ModelInput,
    ModelMetrics,
    ModelOutput,
    Optimization,
    SequenceBatching,
    StageSettings,
    TritonModel,
    VersionPolicy,
)
from builder.spec.triton.model import BatchedStage

SECTIONS: list[tuple[type[BaseModel], Descriptor]] = [
    (BatchInput, pb.BatchInput.DESCRIPTOR),
    (BatchOutput, pb.BatchOutput.DESCRIPTOR),
    (DynamicBatching, pb.ModelDynamicBatching.DESCRIPTOR),
    (InstanceGroup, pb.ModelInstanceGroup.DESCRIPTOR),
    (ModelInput, pb.ModelInput.DESCRIPTOR),
    (ModelMetrics, pb.ModelMetrics.DESCRIPTOR),
    (ModelOutput, pb.ModelOutput.DESCRIPTOR),
    (Optimization, pb.ModelOptimizationPolicy.DESCRIPTOR),
    (SequenceBatching, pb.ModelSequenceBatching.DESCRIPTOR),
    (VersionPolicy, pb.ModelVersionPolicy.DESCRIPTOR),
]

# What the recipe of a model writes, not its user.
WRITTEN = {
    "name",
    "platform",
    "backend",
    "input",
    "output",
    "default_model_filename",
    "cc_model_filenames",
    "model_repository_agents",
}


def _messages(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _messages(part)


def _compare(model: type[BaseModel], descriptor: Descriptor) -> None:
    known = {field.alias or name: field for name, field in model.model_fields.items()}
    assert set(known) == {field.name for field in descriptor.fields}, descriptor.full_name
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            message = field.message_type
            if message.GetOptions().map_entry:
                message = message.fields_by_name["value"].message_type
            inner = list(_messages(known[field.name].annotation))
            if message is None or not inner:
                continue  # a map of texts
            _compare(inner[0], message)


@pytest.mark.parametrize(("model", "descriptor"), SECTIONS)
def test_a_section_has_the_fields_of_the_proto(
    model: type[BaseModel], descriptor: Descriptor
) -> None:
    _compare(model, descriptor)


def test_every_field_of_a_model_config_can_be_set_by_somebody() -> None:
    fields = {field.name for field in pb.ModelConfig.DESCRIPTOR.fields}
    settable = set(TritonModel.model_fields) | set(EnsembleSettings.model_fields)
    assert fields - settable == WRITTEN
    assert settable - fields == {"instances"}


BAD_BATCHING = [
    ({"priority_levels": 2}, "priority_levels 2 needs a default_priority_level from 1 to 2"),
    ({"default_priority_level": 1}, "default_priority_level has no meaning without priority_lev"),
    ({"priority_queue_policy": {1: {}}}, "priority_queue_policy has no meaning without priority"),
    (
        {"priority_levels": 2, "default_priority_level": 1, "priority_queue_policy": {3: {}}},
        "priority_queue_policy has a level 3; priority_levels is 2",
    ),
    (
        {"priority_levels": 2, "default_priority_level": 1, "preserve_ordering": True},
        "preserve_ordering and priority_levels above 1 exclude each other",
    ),
    (
        {
            "preserve_ordering": True,
            "default_queue_policy": {"timeout_action": "DELAY", "default_timeout_microseconds": 1},
        },
        "preserve_ordering and timeout_action DELAY exclude each other",
    ),
]
START = {"kind": "CONTROL_SEQUENCE_START", "int32_false_true": [0, 1]}
STATE = {"input_name": "in", "output_name": "out", "data_type": "FP32", "dims": [2]}
BAD_SEQUENCES = [
    ({"direct": {}, "oldest": {"max_candidate_sequences": 1}}, "direct and oldest exclude"),
    (
        {"control_input": [{"name": "a", "control": [START]}, {"name": "b", "control": [START]}]},
        "the control CONTROL_SEQUENCE_START is given twice",
    ),
    (
        {"control_input": [{"name": "a", "control": [{"kind": "CONTROL_SEQUENCE_END"}]}]},
        "CONTROL_SEQUENCE_END needs one of int32_false_true",
    ),
    (
        {"control_input": [{"name": "a", "control": [{**START, "int32_false_true": [1]}]}]},
        "int32_false_true is two values",
    ),
    (
        {"control_input": [{"name": "a", "control": [{**START, "data_type": "INT32"}]}]},
        "data_type is for CONTROL_SEQUENCE_CORRID",
    ),
    (
        {"control_input": [{"name": "a", "control": [{"kind": "CONTROL_SEQUENCE_CORRID"}]}]},
        "CONTROL_SEQUENCE_CORRID needs a data_type",
    ),
    ({"state": [STATE, STATE]}, "the state's input_name in is given twice"),
    ({"state": [{**STATE, "use_growable_memory": True}]}, "use_same_buffer_for_input_output"),
    (
        {"state": [{**STATE, "initial_state": [{"name": "i", "data_type": "FP32", "dims": [2]}]}]},
        "needs one of zero_data, data_file",
    ),
    (
        {
            "state": [
                {
                    **STATE,
                    "initial_state": [
                        {"name": "i", "data_type": "FP32", "dims": [3], "zero_data": True}
                    ],
                }
            ]
        },
        "has the dims [3], its state [2]",
    ),
    (
        {
            "state": [
                {
                    **STATE,
                    "initial_state": [
                        {"name": "i", "data_type": "INT32", "dims": [2], "zero_data": True}
                    ],
                }
            ]
        },
        "initial_state of in is INT32, its state FP32",
    ),
]
BAD_MODELS = [
    (
        {"dynamic_batching": {}, "sequence_batching": {}},
        "dynamic_batching and sequence_batching exclude each other",
    ),
    (
        {"sequence_batching": {}, "response_cache": {"enable": True}},
        "response_cache and sequence_batching exclude each other",
    ),
    (
        {"model_transaction_policy": {"decoupled": True}, "response_cache": {"enable": True}},
        "response_cache and model_transaction_policy.decoupled exclude each other",
    ),
    (
        {"sequence_batching": {}, "parameters": {"TRITON_BATCH_STRATEGY_PATH": "x.so"}},
        "sequence_batching and the parameter TRITON_BATCH_STRATEGY_PATH exclude each other",
    ),
    ({"instances": {}, "instance_group": [{}]}, "instances and instance_group say the same"),
    ({"instance_group": [{"passive": True}]}, "every instance_group is passive"),
    ({"instance_group": [{"kind": "cpu", "gpus": [0]}]}, "kind cpu and gpus exclude each other"),
    ({"optimization": {"cuda": {"graph_spec": [{}]}}}, "graph_spec has no meaning without graphs"),
    ({"version_policy": {}}, "give one of latest, all, specific"),
    ({"version_policy": {"latest": {}, "all": {}}}, "not latest and all"),
    ({"ensemble_scheduling": {}}, "ensemble_scheduling has no meaning here"),
    (
        {"max_batch_size": 2, "dynamic_batching": {"preferred_batch_size": [3]}},
        "preferred_batch_size 3 is larger than max_batch_size 2",
    ),
    (
        {
            "max_batch_size": 2,
            "sequence_batching": {
                "oldest": {"max_candidate_sequences": 2, "preferred_batch_size": [3]}
            },
        },
        "preferred_batch_size 3 is larger than max_batch_size 2",
    ),
    (
        {
            "batch_input": [
                {"kind": "BATCH_ELEMENT_COUNT", "target_name": ["n"], "source_input": ["x"]}
            ]
        },
        "batch_input needs a max_batch_size above 0",
    ),
    (
        {
            "model_metrics": {
                "metric_control": [
                    {
                        "metric_identifier": {"family": "f"},
                        "histogram_options": {"buckets": [2, 1]},
                    }
                ]
            }
        },
        "must ascend",
    ),
    (
        {"model_warmup": [{"name": "w", "inputs": {"x": {}}}]},
        "give one of zero_data, random_data, input_data_file, values",
    ),
]


@pytest.mark.parametrize(
    ("model", "values", "sentence"),
    [
        *((DynamicBatching, *case) for case in BAD_BATCHING),
        *((SequenceBatching, *case) for case in BAD_SEQUENCES),
        *((TritonModel, *case) for case in BAD_MODELS),
    ],
)
def test_what_does_not_go_together_is_refused_with_both_keys(
    model: type[BaseModel], values: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        model.model_validate(values)
    messages = [error["msg"] for error in raised.value.errors()]
    assert len(messages) == 1
    assert sentence in messages[0]


@pytest.mark.parametrize(
    "key", ["sequence_batching", "batch_input", "model_transaction_policy", "runtime"]
)
def test_a_stage_of_the_builder_says_why_a_key_is_not_its_own(key: str) -> None:
    for model in (StageSettings, BatchedStage):
        with pytest.raises(ValidationError, match=f"{key} has no meaning here: .+"):
            model.model_validate({key: {}})


def test_an_ensemble_says_where_the_settings_of_instances_belong() -> None:
    with pytest.raises(ValidationError, match=r"instance_group has no meaning here: .*the models"):
        EnsembleSettings.model_validate({"instance_group": [{}]})
