from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from builder.errors import SpecError
from builder.optimize.artifact import make_artifact
from builder.optimize.fusion import fuse
from builder.optimize.integers import quantize_dynamic
from builder.optimize.products import products
from builder.optimize.rewrite import load, save
from builder.optimize.sensitivity import by_harm
from builder.spec.models import Tolerance
from builder.spec.precision import Precision
from tests.unit.optimize.conftest import LIMITS, Exported


def settings(**values: Any) -> Precision:
    return Precision.model_validate(values)


def made(source: Exported, folder: Path, spec: Precision, **around: Any) -> Any:
    (folder / "out").mkdir()
    (folder / "work").mkdir()
    target = folder / "out" / "model.onnx"
    return make_artifact(source.path, target, spec, source.around(**around), folder / "work")


def test_auto_measures_every_candidate(bert: Exported, records: Any, tmp_path: Path) -> None:
    spec = settings(precision="auto", calibration={"data": "texts.jsonl", "samples": 8})
    outcome = made(bert, tmp_path, spec, calibration=lambda: records)
    names = [variant.precision for variant in outcome.variants]
    assert names == ["fp32", "int8-dynamic", "int8-static", "int4"]
    assert all(variant.milliseconds > 0 for variant in outcome.variants)
    assert outcome.chosen.within and outcome.chosen.path.is_file()
    said = outcome.as_dict()
    assert said["precision"] == outcome.chosen.precision and said["reason"].endswith(".")
    assert said["variants"][1]["bytes"] < said["variants"][0]["bytes"]


def test_a_strict_tolerance_leaves_fp32(bert: Exported, tmp_path: Path) -> None:
    strict = {"max_abs_error": 1e-7, "min_cosine": 1.0}
    spec = settings(precision="auto", tolerances={"int8-dynamic": strict, "int4": strict})
    outcome = made(bert, tmp_path, spec)
    assert outcome.chosen.precision == "fp32"
    assert "int4 is over its tolerance" in outcome.reason
    assert bert.error(outcome.chosen.path)[0] < 1e-5


def test_products_stay_in_fp32_until_the_tolerance_is_met(bert: Exported, tmp_path: Path) -> None:
    whole = made(bert, tmp_path, settings(precision="int8-dynamic"))
    cosine = whole.chosen.min_cosine
    assert whole.chosen.kept == 0
    half = tmp_path / "half"
    half.mkdir()
    asked = {"min_cosine": (1 + 2 * cosine) / 3}
    spec = settings(precision="int8-dynamic", tolerances={"int8-dynamic": asked})
    outcome = made(bert, half, spec)
    assert outcome.chosen.within and outcome.chosen.kept > 0
    assert f"{outcome.chosen.kept} of 8 products in fp32" in outcome.reason


def test_harm_is_ranked_as_it_is_done(bert: Exported, tmp_path: Path) -> None:
    """One channel a hundred times as large as the others: 8 bits have nothing left for those."""
    graph = tmp_path / "fused.onnx"
    model = fuse(bert.path, "tuned", LIMITS, tmp_path)
    values, attended = products(model)[:2]
    into, out_of = values.matrix().copy(), attended.matrix().copy()
    into[:, -64] *= 100
    out_of[0] /= 100
    for product, matrix in ((values, into), (attended, out_of)):
        product.weight.const_value = ir.tensor(matrix.T if product.transposed else matrix)
    save(model, graph)
    assert bert.error(graph)[0] < 1e-5
    (tmp_path / "scratch").mkdir()
    places = by_harm(graph, bert.feeds, tmp_path / "scratch")
    assert sorted(places) == list(range(8)) and places[0] == 1
    errors = []
    for keep in ([1], [0, 2, 3, 4, 5, 6, 7]):
        model = load(graph)
        quantize_dynamic(model, keep=keep)
        save(model, tmp_path / "kept.onnx")
        errors.append(1 - bert.error(tmp_path / "kept.onnx")[1])
    assert errors[0] < errors[1] / 2


@pytest.mark.parametrize("precision", ["auto", "int4", "int8-dynamic"])
def test_a_gpu_takes_no_cpu_precision(bert: Exported, tmp_path: Path, precision: str) -> None:
    with pytest.raises(SpecError, match="fp16"):
        made(bert, tmp_path, settings(precision=precision), target="gpu")


def test_fp16_for_a_gpu_is_not_timed_here(bert: Exported, tmp_path: Path) -> None:
    outcome = made(bert, tmp_path, settings(precision="fp16", optimize="O4"), target="gpu")
    assert outcome.chosen.precision == "fp16" and outcome.chosen.milliseconds == 0


def test_a_tolerance_in_part_keeps_its_default() -> None:
    spec = settings(precision="int4", tolerances={"int4": {"min_cosine": 0.5}})
    assert spec.tolerance("int4", Tolerance()) == Tolerance(max_abs_error=4.0, min_cosine=0.5)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"precision": "int8-static"}, "needs calibration.data"),
        ({"optimize": "O4"}, "set precision: fp16"),
        ({"tolerances": {"fp32": {}}}, "own key 'tolerance'"),
    ],
)
def test_settings_that_do_not_agree(values: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settings(**values)
