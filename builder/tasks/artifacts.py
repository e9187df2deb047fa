"""The artifact of a task's graph: from the cache, or exported, optimized and verified."""

import shutil
from pathlib import Path
from typing import Any, Final

from builder.cache.key import cache_key
from builder.cache.store import Store
from builder.cache.verified import make_verified, take_verified
from builder.optimize.artifact import Outcome, Surroundings, make_artifact
from builder.optimize.calibration import Told
from builder.progress import Progress
from builder.publish.manifest import sha256
from builder.recipe import Made
from builder.spec.language import SERVING
from builder.spec.releases import onnx_limits
from builder.spec.task import TaskSpec
from builder.spec.triton.model import BatchedStage
from builder.tasks.export import export_graph
from builder.tasks.optimum import optimum_versions
from builder.tasks.parity import verify_graph
from builder.tasks.records import accuracy_of, inputs_of, read_records
from builder.tasks.task import Artifact, Graph, Task
from builder.verify.measure import ParityRow, artifact_errors

FILE: Final = "model.onnx"

# Keys of a spec that the exported graph does not depend on.
_NOT_EXPORTED: Final = {
    "name",
    "long_text",
    "tokenizers",
    "tolerance",
    "target",
    "stages",
    "ensemble",
}
_ONLY_SERVED: Final[dict[str, Any]] = {
    "model": set(BatchedStage.model_fields),
    "stages": True,
    "ensemble": True,
}
_KEPT_OF_MODEL: Final = ("exporter",)


def _files(path: Path) -> list[Path]:
    data = path.with_name(f"{path.name}.data")
    return [part for part in (path, data) if part.is_file()]


class ArtifactMaker:
    """Makes the artifacts of one build."""

    def __init__(
        self, spec: TaskSpec, base: Path, task: Task, store: Store | None, progress: Progress
    ) -> None:
        """Prepare.

        Args:
            spec: The spec.
            base: Folder that its paths are relative to.
            task: Its task.
            store: The cache; None: everything is made anew and nothing kept.
            progress: Told about each step.
        """
        self._spec = spec
        self._base = base
        self._task = task
        self._progress = progress
        self._hashes = task.files.shaping_hashes() if store else {}
        self._store = store
        optimum = store is not None and spec.model.exporter == "optimum"
        self._optimum = optimum_versions() if optimum else []

    def _data(self, name: str | None) -> Path | None:
        return None if name is None else self._base / name

    def _export_key(self, name: str) -> str:
        spec = self._spec.model_dump(mode="json", exclude={*_NOT_EXPORTED, "model"})
        model = {key: getattr(self._spec.model, key) for key in _KEPT_OF_MODEL}
        graph = name.removeprefix(self._spec.name)
        parts = {"graph": graph, "spec": spec, "model": model, "from": self._hashes}
        return cache_key({**parts, "optimum": self._optimum})

    def _key(self, name: str) -> str:
        model = self._spec.model
        data = (model.calibration.data if model.calibration else None, model.evaluation)
        paths = [path for path in map(self._data, data) if path is not None and path.is_file()]
        return cache_key(
            {
                "graph": name,
                "spec": self._spec.model_dump(mode="json", exclude=_ONLY_SERVED),
                "from": self._hashes,
                "optimum": self._optimum,
                "data": [sha256(path) for path in paths],
            }
        )

    def take(self, name: str, folder: Path) -> Made | None:
        """Take an artifact out of the cache into its folder; None: it must be made."""
        facts = self._store.take(self._key(name), folder) if self._store else None
        if facts is None:
            return None
        self._progress.step(f"{name} from the cache")
        return Made([ParityRow.of(row) for row in facts["rows"]], facts["outcome"])

    def make(self, graph: Graph, folder: Path) -> Made:
        """Export, optimize and verify a graph, and keep it in the cache.

        Raises:
            BuilderError: it can't be exported, or does not run.
        """
        candidates = folder / ".candidates"
        candidates.mkdir()
        try:
            outcome = self._make(graph, folder / FILE, candidates)
        finally:
            shutil.rmtree(candidates, ignore_errors=True)
        made = Made(outcome.chosen.rows, outcome.as_dict())
        if self._store and outcome.chosen.within:
            facts = {"rows": [row.as_dict() for row in made.rows], "outcome": made.outcome}
            self._store.put(self._key(graph.name), _files(folder / FILE), facts)
        return made

    def export(self, graph: Graph, path: Path) -> None:
        """Write a graph as it is exported, from the cache where it is there.

        Raises:
            ExportError: it can't be exported.
        """
        key = self._export_key(graph.name) if self._store else ""
        if self._store and self._store.take(key, path.parent) is not None:
            self._progress.step(f"export of {graph.name} from the cache")
            return
        self._progress.step(f"export {graph.name}")
        spec = self._spec
        export_graph(graph, path, spec.model.exporter, onnx_limits(spec.triton_release))
        if self._store:
            self._store.put(key, _files(path), {})

    def take_own(self, artifact: Artifact, folder: Path) -> Made | None:
        """Take what a task exports itself out of the cache; None: it must be made."""
        rows = take_verified(self._store, self._own_key(artifact.name), folder)
        if rows is None:
            return None
        self._progress.step(f"{artifact.name} from the cache")
        return Made(rows)

    def make_own(self, artifact: Artifact, folder: Path) -> Made:
        """Write what a task exports itself, and compare it; it is kept in the cache.

        Raises:
            BuilderError: it can't be exported, or does not run.
        """
        key = self._own_key(artifact.name)
        return Made(
            make_verified(self._store, key, folder, lambda: self._make_own(artifact, folder))
        )

    def _make_own(self, artifact: Artifact, folder: Path) -> list[ParityRow]:
        self._progress.step(f"export {artifact.name}")
        artifact.export(folder, onnx_limits(self._spec.triton_release))
        self._progress.step(f"verify {artifact.name}")
        with artifact_errors(artifact.name):
            return artifact.verify(folder)

    def _own_key(self, name: str) -> str:
        if self._store is None:
            return ""
        # `model` is of the graphs beside it.
        spec = self._spec.model_dump(
            mode="json",
            exclude={
                "model": True,
                "long_text": True,
                "tokenizers": True,
                "stages": True,
                "ensemble": True,
                "generation": SERVING | {"max_tokens", "default_max_tokens"},
            },
        )
        return cache_key({"own": name, "spec": spec, "from": self._hashes})

    def _make(self, graph: Graph, path: Path, candidates: Path) -> Outcome:
        spec = self._spec
        exported = candidates / "exported"
        exported.mkdir()
        self.export(graph, exported / FILE)
        self._progress.step(f"optimize and verify {graph.name}")
        with artifact_errors(graph.name):
            around = self._surroundings(graph)
            return make_artifact(exported / FILE, path, spec.model, around, candidates)

    def _surroundings(self, graph: Graph) -> Surroundings:
        spec, task = self._spec, self._task
        samples = list(graph.samples())
        calibration = self._data(spec.model.calibration.data if spec.model.calibration else None)
        evaluation = self._data(spec.model.evaluation)
        return Surroundings(
            target=spec.target,
            limits=onnx_limits(spec.triton_release),
            exact=spec.tolerance,
            threads=spec.model.onnxruntime.intra_op_thread_count,
            verify=lambda path, tolerance: verify_graph(graph.name, path, samples, tolerance),
            feeds=[sample.inputs for sample in samples],
            calibration=None
            if calibration is None
            else lambda: (
                inputs_of(task, graph, record, calibration) for record in read_records(calibration)
            ),
            accuracy=None
            if evaluation is None
            else lambda path: accuracy_of(task, graph, evaluation, path),
            state=self._store.scratch(self._key(graph.name)) if self._store else None,
            told=self._told(graph.name),
        )

    def _told(self, name: str) -> Told:
        def told(done: int, total: int) -> None:
            self._progress.detail(f"calibrate {name}: {done} of {total}")

        return told
