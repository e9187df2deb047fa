"""Rendering: strict templates, configs parsed back with Triton's own protobuf classes."""

from dataclasses import fields, replace

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as pb

from builder.arr_coc.configs import pipeline_configs
from builder.arr_coc.reference import Reference
from builder.errors import RenderError
from builder.render.model_config import ModelConfig
from builder.render.proto import check_rendered, to_proto
from builder.render.templates import render_config, render_template


@pytest.fixture(scope="module")
def configs(reference: Reference) -> dict[str, ModelConfig]:
    listed = pipeline_configs(reference.spec, reference.source.facts)
    return {config.name: config for config in listed}


def test_every_config_parses_back_to_itself(configs: dict[str, ModelConfig]) -> None:
    for config in configs.values():
        parsed = text_format.Parse(render_config(config, "x.yaml"), pb.ModelConfig())
        assert parsed == to_proto(config)


@pytest.mark.parametrize("target", ["gpu", "tensorrt"])
def test_a_target_changes_no_name_shape_or_type(
    reference: Reference, configs: dict[str, ModelConfig], target: str
) -> None:
    spec = reference.spec.model_copy(update={"target": target})
    for config in pipeline_configs(spec, reference.source.facts):
        render_config(config, "x.yaml")
        here = configs[config.name]
        assert (config.inputs, config.outputs) == (here.inputs, here.outputs)
        assert config.max_batch_size == here.max_batch_size


def test_targets_choose_backends_and_devices(reference: Reference) -> None:
    spec = reference.spec.model_copy(update={"target": "tensorrt"})
    made = {c.name: to_proto(c) for c in pipeline_configs(spec, reference.source.facts)}
    assert made["vision"].platform == "tensorrt_plan"
    assert made["relevance"].backend == "onnxruntime"  # TensorRT has no fp64
    assert made["vision"].instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU
    assert made["preprocess"].instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU


def test_a_field_that_was_not_rendered_is_found(configs: dict[str, ModelConfig]) -> None:
    vision = configs["vision"]
    text = render_config(vision, "x.yaml")
    with pytest.raises(RenderError, match="max_batch_size"):
        check_rendered(replace(vision, max_batch_size=3), text)
    with pytest.raises(RenderError, match="does not parse"):
        check_rendered(vision, text + "no_such_field: 1\n")
    assert {field.name for field in fields(ModelConfig)} > {"inputs", "outputs", "steps"}


def test_an_unset_variable_is_an_error() -> None:
    with pytest.raises(RenderError, match="undefined"):
        render_template("requirements.txt.j2")
    with pytest.raises(RenderError, match="no_such"):
        render_template("no_such.j2")


@given(st.text(max_size=80))
def test_any_text_survives_as_a_parameter(value: str) -> None:
    config = ModelConfig("python", "m", 0, (), (), parameters={"key": value})
    if any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        return  # not text
    parsed = text_format.Parse(render_config(config, "x.yaml"), pb.ModelConfig())
    assert parsed.parameters["key"].string_value == value
