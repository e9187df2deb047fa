"""The validator against the real server: the same verdict on every mutant.

A few hundred mutants run with the other tests; all of them with

    pytest -m slow -s tests/integration/test_validate_differential.py

which prints the table of `docs/validator.md`.
"""

from collections import Counter
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2 as pb
from validator_mutants.differential import (
    CORE_SECTIONS,
    FILE_SECTIONS,
    Verdict,
    judge,
    make_mutants,
    table,
)
from validator_mutants.mutant import Mutant, Section, text
from validator_mutants.server import DIED

SEED = 2410


def run(sections: list[Section], count: int, folder: Path, seed: int = SEED) -> list[Verdict]:
    """Verdicts on `count` mutants for each weight of each section."""
    verdicts: list[Verdict] = []
    for rate_limit in (False, True):
        chosen = [section for section in sections if section.rate_limit == rate_limit]
        if chosen:
            mutants = make_mutants(chosen, count, seed)
            verdicts += judge(mutants, folder / f"{rate_limit}", rate_limit=rate_limit)
    return verdicts


def assert_agreement(verdicts: list[Verdict]) -> None:
    """No false accept and no false reject; the message has all that is needed to mend a rule."""
    wrong = [verdict.explain() for verdict in verdicts if not verdict.agree]
    assert not wrong, "\n\n".join([f"{len(wrong)} of {len(verdicts)} differ", *wrong[:10]])


def assert_balance(verdicts: list[Verdict], least: float) -> None:
    """Both verdicts are frequent in every section, or the agreement would mean little."""
    total = Counter(verdict.mutant.section for verdict in verdicts)
    accepted = Counter(v.mutant.section for v in verdicts if v.triton_accepts)
    for section, count in total.items():
        assert least <= accepted[section] / count <= 1 - least, (section, accepted[section], count)


@pytest.mark.timeout(900)
def test_some_of_the_core(tmp_path: Path) -> None:
    verdicts = run(CORE_SECTIONS, 10, tmp_path)
    assert len(verdicts) >= 300
    assert_agreement(verdicts)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_some_files(tmp_path: Path) -> None:
    """Slow, for all its 12 mutants: over a Python file that is not there the server hangs."""
    assert_agreement(run(FILE_SECTIONS, 4, tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_all(tmp_path: Path) -> None:
    verdicts = run(CORE_SECTIONS, 100, tmp_path / "core")
    verdicts += run(FILE_SECTIONS, 30, tmp_path / "files")
    print(f"\n{table(verdicts)}")
    assert len(verdicts) >= 3000
    assert_agreement(verdicts)
    assert_balance(verdicts, 0.1)


@pytest.mark.timeout(600)
def test_what_kills_the_server_is_an_error(tmp_path: Path) -> None:
    ring = pb.ModelConfig(platform="ensemble", max_batch_size=4)
    ring.input.add(name="X", data_type=pb.TYPE_FP32, dims=[4])
    ring.output.add(name="Y", data_type=pb.TYPE_FP32, dims=[4])
    step = ring.ensemble_scheduling.step.add(model_name="step_ring_a", model_version=-1)
    step.input_map["X"], step.output_map["Y"] = "X", "Y"
    null = text(pb.ModelConfig(backend="null"))
    labels = pb.ModelConfig(backend="null")
    labels.output.add(name="Y", data_type=pb.TYPE_FP32, dims=[1], label_filename="1")
    tag = text(pb.ModelConfig(backend="null", metric_tags={"a-b": "v"}))
    killers = {
        "metrics.tag": Mutant("", {"config.pbtxt": tag, "1": None}),
        "ensemble.circle": Mutant("", {"config.pbtxt": text(ring), "1": None}),
        "layout.version-overflow": Mutant("", {"config.pbtxt": null, "1": None, "9" * 20: None}),
        "labels.file": Mutant("", {"config.pbtxt": text(labels), "1": None}),
    }
    for number, mutant in enumerate(killers.values()):
        mutant.name = f"killer{number}"
    for rule, verdict in zip(killers, judge(list(killers.values()), tmp_path), strict=True):
        assert DIED in verdict.triton_says
        assert rule in {finding.rule for finding in verdict.findings}


def _python(source: str) -> Mutant:
    config = pb.ModelConfig(backend="python")
    return Mutant("", {"config.pbtxt": text(config), "1/model.py": source.encode()})


def _onnx(opset: int, ir_version: int) -> Mutant:
    value = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["batch", 4])
    result = helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([helper.make_node("Identity", ["X"], ["Y"])], "g", [value], [result])
    domain = helper.make_opsetid("", opset)
    model = helper.make_model(graph, opset_imports=[domain], ir_version=ir_version)
    config = pb.ModelConfig(backend="onnxruntime", max_batch_size=4)
    config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    config.input.add(name="X", data_type=pb.TYPE_FP32, dims=[4])
    config.output.add(name="Y", data_type=pb.TYPE_FP32, dims=[4])
    return Mutant("", {"config.pbtxt": text(config), "1/model.onnx": model.SerializeToString()})


DIFFERENCES = {
    # We refuse, Triton loads.
    "python.execute": _python("class TritonPythonModel:\n    pass\n"),
    "onnx.release": _onnx(22, 10),
    # We accept, Triton refuses: what only running the code can tell.
    "import": _python("import no_such_module\n\n\nclass TritonPythonModel:\n    execute = None\n"),
}
"""The named differences of `docs/validator.md`, each shown by one model."""


@pytest.mark.timeout(600)
def test_the_named_differences_are_real(tmp_path: Path) -> None:
    mutants = list(DIFFERENCES.values())
    for number, mutant in enumerate(mutants):
        mutant.name = f"difference{number}"
    verdicts = dict(zip(DIFFERENCES, judge(mutants, tmp_path), strict=True))
    for name in ("python.execute", "onnx.release"):
        errors = {f.rule for f in verdicts[name].findings if f.severity == "error"}
        assert verdicts[name].triton_accepts
        assert errors == {name}
    assert not verdicts["import"].triton_accepts
    assert verdicts["import"].we_accept
