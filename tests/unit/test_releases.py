"""The table of releases, and what is read from it."""

import subprocess
import sys
from pathlib import Path

import pytest
from onnx import ModelProto, TensorProto, helper

from builder.errors import BuilderError, SpecError
from builder.recipes import render_to
from builder.releases import (
    onnx_problems,
    onnxruntime_of,
    opsets_of,
    release_of,
    table,
    uses_of,
)
from builder.releases.page import PAGE, as_markdown
from builder.spec.load import load_any_spec
from builder.spec.releases import DEFAULT_RELEASE, built_for, onnx_limits
from builder.spec.task import TaskSpec
from builder.validate import Target, validate_repository

ROOT = Path(__file__).parents[2]
SPECS = [ROOT / "specs" / f"{name}.yaml" for name in ("arr_coc", "digits", "minilm")]
MONTHS = [f"{year}.{month:02}" for year in (24, 25, 26) for month in range(1, 13)]


def test_every_release_from_24_09_to_26_08_has_a_row() -> None:
    rows = list(table().releases)
    assert rows[: rows.index("26.08") + 1] == MONTHS[MONTHS.index("24.09") : -4]
    servers = [tuple(map(int, row.server.split("."))) for row in table().releases.values()]
    assert servers == sorted(servers)


def test_every_onnx_runtime_of_a_row_was_measured() -> None:
    rows = table()
    assert {row.onnxruntime for row in rows.releases.values()} <= set(rows.onnxruntimes)
    for limits in rows.onnxruntimes.values():
        assert limits.wheel == limits.version  # every one of them has a wheel


def test_what_is_known_grows_with_the_release() -> None:
    limits = [onnx_limits(name) for name in table().releases]
    assert [one.opset for one in limits] == sorted(one.opset for one in limits)
    assert [one.ir_version for one in limits] == sorted(one.ir_version for one in limits)


def test_names_of_releases_in_the_table_are_releases() -> None:
    rows = table()
    named = [rows.default, rows.local, rows.floor, *rows.critical.values(), *rows.fields.values()]
    named += [*rows.backends_gone.values(), *(change.since for change in rows.changes.values())]
    assert set(named) <= set(MONTHS)
    assert {rows.default, rows.local, rows.floor} <= set(rows.releases)


def test_the_default_is_at_or_above_the_floor() -> None:
    rows = table()
    assert DEFAULT_RELEASE == rows.default >= rows.floor
    assert not rows.security_advice(rows.default)
    assert not rows.open_cves(rows.floor)
    advice = rows.security_advice(rows.local)
    assert all(cve in advice for cve in rows.critical)
    assert "CVE-2025-23310" not in rows.security_advice("25.07")


@pytest.mark.parametrize("name", ["26.13", "24.08", "latest", "", "26.7", "26.07 "])
def test_an_unknown_release_is_one_sentence(name: str) -> None:
    with pytest.raises(SpecError) as refused:
        release_of(name)
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(BuilderError):
        Target(release=name)


def test_fields_and_backends_by_release() -> None:
    assert not Target(release="24.10").knows("ModelConfig.model_metrics")
    assert Target(release="24.11").knows("ModelConfig.model_metrics")
    assert not Target(release="25.10").knows("ModelEnsembling.max_inflight_requests")
    assert Target(release="25.11").knows("ModelEnsembling.max_inflight_requests")
    assert "tensorflow" in Target(release="25.02").all_backends
    assert "tensorflow" not in Target(release="25.03").all_backends
    own = Target(release="25.03", own_backends=frozenset({"tensorflow"}))
    assert "tensorflow" in own.all_backends


def test_tensorrt_is_known_or_said_to_be_unknown() -> None:
    assert Target(release="24.12").tensorrt == (10, 7)
    assert Target(release="26.07").tensorrt is None


def built_with(release: object) -> dict[str, object]:
    return {"live": 1, "versions": {"1": {"spec": {"triton_release": release}}}}


def test_a_repository_says_what_it_was_built_for() -> None:
    member = built_with("25.03")
    assert built_for({"members": {"a": member}}) == "25.03"
    assert built_for({"members": {"a": member, "b": built_with("25.08")}}) == "25.08"
    odd: list[dict[str, object]] = [{}, {"members": None}, {"members": {"a": None}}]
    odd += [{"members": {"a": {"live": 2, "versions": member["versions"]}}}]
    odd += [{"members": {"a": built_with(of)}} for of in (3, None, "30.01", [])]
    assert {built_for(manifest) for manifest in odd} == {DEFAULT_RELEASE}


def test_an_onnx_runtime_that_nobody_measured_counts_as_the_next_lower() -> None:
    assert onnxruntime_of("1.25.0").version == "1.24.4"
    with pytest.raises(SpecError):
        onnxruntime_of("1.2.0")


def test_the_page_is_the_tables() -> None:
    assert as_markdown() in PAGE.read_text(), "run python -m builder.releases.page"


# A node, what it imports, and the ONNX Runtimes that refuse and that load it.
def model(
    operator: str, domain: str, opset: int, *, inputs: int = 1, **attributes: object
) -> ModelProto:
    names = [f"x{number}" for number in range(inputs)]
    node = helper.make_node(operator, names, ["y"], domain=domain, **attributes)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in (*names, "y")]
    graph = helper.make_graph([node], "g", values[:-1], values[-1:])
    imports = [helper.make_opsetid(domain, opset)] + [helper.make_opsetid("", 17)] * bool(domain)
    return helper.make_model(graph, opset_imports=imports)


MS = "com.microsoft"
NBITS = {"K": 64, "N": 8, "block_size": 32}
YOUNGER = {
    "an opset": (model("Relu", "", 24), "1.23.2", "1.24.1"),
    "eight bits": (model("MatMulNBits", MS, 1, inputs=3, bits=8, **NBITS), "1.22.0", "1.23.0"),
    "two bits": (model("MatMulNBits", MS, 1, inputs=3, bits=2, **NBITS), "1.23.2", "1.24.1"),
    "a block of 8": (
        model("MatMulNBits", MS, 1, inputs=3, bits=4, K=64, N=8, block_size=8),
        "1.23.0",
        "1.22.0",
    ),
    "a contrib operator": (model("LinearAttention", MS, 1), "1.24.4", "1.27.0"),
    "an attribute": (
        model("GroupQueryAttention", MS, 1, num_heads=1, kv_num_heads=1, softcap=1.0),
        "1.19.2",
        "1.20.1",
    ),
}


def refused_by(version: str, of: ModelProto, *, cpu: bool = False) -> list[str]:
    return onnx_problems(version, opsets_of(of.opset_import), uses_of(of), cpu=cpu)


@pytest.mark.parametrize("case", YOUNGER)
def test_what_an_onnx_runtime_lacks(case: str) -> None:
    of, refuses, loads = YOUNGER[case]
    assert len(refused_by(refuses, of)) == 1
    assert refused_by(loads, of) == []


def test_an_opset_of_ml_that_loads_and_an_operator_of_it_without_a_kernel() -> None:
    """1.19.2 takes an import of ai.onnx.ml 5 and has no kernel for what came with it."""
    scaler = model("Scaler", "ai.onnx.ml", 5, offset=[0.0], scale=[1.0])
    assert refused_by("1.19.2", scaler, cpu=True) == []
    trees = model("TreeEnsemble", "ai.onnx.ml", 5)
    assert refused_by("1.20.1", trees, cpu=True) == [
        "the operator ai.onnx.ml::TreeEnsemble on a CPU"
    ]
    assert refused_by("1.20.1", trees) == []
    assert refused_by("1.21.0", trees, cpu=True) == []


def test_operators_of_functions_are_those_of_the_calls() -> None:
    body = [helper.make_node("Gelu", ["a"], ["b"])]
    function = helper.make_function("my", "F", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    of = model("F", "my", 1)
    of.functions.append(function)
    assert refused_by("1.28.0", of) == ["the operator Gelu of opset 17"]
    of.graph.node[0].CopyFrom(helper.make_node("Relu", ["x0"], ["y"]))
    assert refused_by("1.28.0", of) == []


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_shipped_specs_render_for_every_release(path: Path, tmp_path: Path) -> None:
    """Every config is one that the release takes; the weights are not there."""
    spec = load_any_spec(path)
    assert spec.triton_release == DEFAULT_RELEASE
    for release in table().releases:
        folder = tmp_path / release
        folder.mkdir()
        render_to(spec.model_copy(update={"triton_release": release}), path, folder, folder)
        found = validate_repository(folder, Target(release=release))
        errors = {f.rule for f in found if f.severity == "error"}
        # Without its file an ONNX model is refused, and the ensemble over it.
        assert errors <= {"artifact.missing", "ensemble.model-failed"}, release
        assert isinstance(spec, TaskSpec) or "artifact.missing" in errors


def test_reading_the_table_is_quick_to_import() -> None:
    """`builder --help` does not read it."""
    code = "import sys, builder.cli; sys.exit('builder.releases' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
