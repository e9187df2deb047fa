"""The rendered pipeline for each order of the stages and each family."""

from pathlib import Path

import pytest

from builder.arr_coc.configs import pipeline_configs
from builder.arr_coc.facts import load_facts
from builder.render.model_config import ModelConfig
from builder.spec.models import Spec
from examples.tiny.make_checkpoint import make_checkpoint


def configs(folder: Path, family: str, prune: str) -> dict[str, ModelConfig]:
    make_checkpoint(folder, family=family)
    spec = Spec.model_validate(
        {
            "name": "arr_coc",
            "checkpoint": {"path": str(folder)},
            "grid": {"rows": 4, "cols": 6},
            "kept_tokens": 7,
            "prune": prune,
        }
    )
    return {
        config.name: config
        for config in pipeline_configs(spec, load_facts(spec.checkpoint, folder))
    }


@pytest.mark.parametrize(
    ("prune", "inputs", "seen"),
    [("after_vision", {"pixels"}, 24), ("before_vision", {"pixels", "kept_indices"}, 7)],
)
def test_what_vision_takes_and_gives(
    tmp_path: Path, prune: str, inputs: set[str], seen: int
) -> None:
    models = configs(tmp_path, "qwen2_vl", prune)
    assert {tensor.name for tensor in models["vision"].inputs} == inputs
    assert {tensor.name: tensor.dims for tensor in models["vision"].outputs} == {
        "image_embeds": (seen, 64)
    }
    step = next(step for step in models["arr_coc"].steps if step.model_name == "vision")
    assert set(step.input_map) == inputs
    language = {tensor.name: tensor.dims for tensor in models["language"].inputs}
    assert language["image_embeds"] == (seen, 64)


def test_deepstack_goes_from_vision_to_language(tmp_path: Path) -> None:
    models = configs(tmp_path, "qwen3_vl", "after_vision")
    given = {tensor.name: tensor.dims for tensor in models["vision"].outputs}
    taken = {tensor.name: tensor.dims for tensor in models["language"].inputs}
    assert given["deepstack"] == taken["deepstack"] == (2, 24, 64)
    step = next(step for step in models["arr_coc"].steps if step.model_name == "language")
    assert "deepstack" in step.input_map
