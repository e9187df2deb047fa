"""A dozen of ONNX's node models that no one chose, as users' files (benchmarks/onnx_nodes.py)."""

from pathlib import Path

import pytest

from benchmarks.onnx_nodes import build, chosen, serve


@pytest.mark.slow
def test_node_models_are_served_equal_or_refused_in_a_sentence(tmp_path: Path) -> None:
    built = []
    for case in chosen(12, seed=7):
        work = tmp_path / case.name
        work.mkdir()
        outcome = build(case, work)
        assert outcome.state in ("built", "refused in init", "refused in build")
        assert len(outcome.sentence.splitlines()) == (outcome.state != "built")
        assert "ONNXRuntimeError" not in outcome.sentence
        if outcome.state == "built":
            built.append((outcome, case, work))
    assert len(built) >= 4
    repository = tmp_path / "repository"
    repository.mkdir()
    serve(built, repository)
    assert {outcome.served for outcome, *_ in built} == {"equal"}
