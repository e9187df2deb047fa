"""The build of a task model: export, verify, render, validate, publish, in this order."""

import shutil
from pathlib import Path
from typing import Any

from builder.cache.store import Store
from builder.publish.manifest import read_manifest, write_manifest
from builder.publish.staging import staging_folder
from builder.render.model_config import ModelConfig
from builder.spec.engines import OpenVino
from builder.spec.task import TaskSpec
from builder.steps import (
    VERSION,
    BuildReport,
    Progress,
    drift,
    model_sizes,
    require_valid,
    selected_models,
    write_models,
)
from builder.tasks.artifacts import FILE, ArtifactMaker
from builder.tasks.engines import (
    engine_configs,
    engine_requirements,
    engine_stages,
    openvino_run,
    save_checkpoint,
    torch_run,
)
from builder.tasks.kind import Graph, Kind, WithArtifacts
from builder.tasks.parity import verify_run
from builder.tasks.registry import kind_of
from builder.verify.measure import ParityRow, artifact_errors, require_parity


def _write(kind: Kind, spec: TaskSpec, origin: str, folder: Path) -> list[ModelConfig]:
    configs = engine_configs(kind, spec)
    stages = engine_stages(kind, spec)
    write_models(configs, stages, engine_requirements(kind, spec), origin, folder)
    return configs


def write_task_files(spec: TaskSpec, spec_path: Path, folder: Path) -> list[ModelConfig]:
    """Everything but weights and tokenizers; the model configs, the ensemble last."""
    return _write(kind_of(spec, spec_path.resolve().parent), spec, spec_path.name, folder)


def task_drift(spec: TaskSpec, spec_path: Path, target: Path, scratch: Path) -> list[str]:
    """Files of a repository that differ from what the spec renders today, as relative paths."""
    write_task_files(spec, spec_path, scratch)
    return drift(scratch, target)


class TaskBuild:
    """One run of the builder."""

    def __init__(
        self,
        spec: TaskSpec,
        spec_path: Path,
        target: Path,
        progress: Progress,
        store: Store | None = None,
    ) -> None:
        """Prepare a build.

        Args:
            spec: The spec.
            spec_path: Its file; local paths in it are relative to its folder.
            target: The repository to write.
            progress: Told about each step.
            store: The cache of artifacts; None: everything is made anew.
        """
        self._store = store
        self._spec = spec
        self._base = spec_path.resolve().parent
        self._origin = spec_path.name
        self._target = target
        self._progress = progress

    def run(self, only: str | None = None) -> BuildReport:
        """Build and publish.

        Args:
            only: Name of one model to build anew; the others stay as they are.

        Raises:
            BuilderError: a step failed; the old repository is untouched.
        """
        spec, progress = self._spec, self._progress
        kind = kind_of(spec, self._base)
        names = [config.name for config in kind.configs()]
        selected = selected_models(names, only, self._target)
        graphs = {name for name in selected if name not in kind.stages() and name != spec.name}
        own = kind.artifacts() if isinstance(kind, WithArtifacts) else []
        artifacts = [artifact for artifact in own if artifact.name in selected]
        progress.start(4 + 2 * (len(graphs) + len(artifacts)))
        with staging_folder(self._target) as staging:
            progress.step("render configs")
            configs = _write(kind, spec, self._origin, staging.path)
            kind.write_files(staging.path)
            for name in set(names) - set(selected):
                shutil.rmtree(staging.path / name)
                shutil.copytree(self._target / name, staging.path / name)
            maker = ArtifactMaker(spec, self._base, kind, self._store, progress)
            rows, precision = self._graphs(kind, maker, configs, graphs, staging.path)
            for artifact in artifacts:
                rows += maker.own(artifact, staging.path / artifact.name / VERSION)
            require_parity(rows)
            progress.step("validate")
            require_valid(staging.path, spec.triton_release)
            progress.step("publish")
            parity = [row.as_dict() for row in rows]
            if only is not None:
                old = read_manifest(self._target).get("parity", [])
                parity += [row for row in old if row.get("artifact") != only]
                kept = read_manifest(self._target).get("precision", {})
                precision = {name: kept[name] for name in kept if name != only} | precision
            write_manifest(
                staging.path,
                models=names,
                spec=spec.model_dump(mode="json"),
                source=kind.files.hashes(),
                parity=parity,
                precision=precision,
            )
            carried = staging.publish()
        sizes = model_sizes(self._target, configs)
        return BuildReport(self._target, sizes, rows, carried, precision)

    def _graphs(
        self,
        kind: Kind,
        maker: ArtifactMaker,
        configs: list[ModelConfig],
        names: set[str],
        folder: Path,
    ) -> tuple[list[ParityRow], dict[str, Any]]:
        """Write the artifacts of the graphs named; their parity, and what was measured of each."""
        native = self._spec.model.engine == "onnxruntime"
        folders = {name: folder / name / VERSION for name in sorted(names)}
        found = {name: maker.take(name, folders[name]) for name in folders} if native else {}
        made = {name: artifact for name, artifact in found.items() if artifact is not None}
        rows = [row for artifact in made.values() for row in artifact.rows]
        if names - set(made):
            self._progress.step("load checkpoint")
            named = {config.name: config for config in configs}
            for graph in kind.graphs():
                if graph.name in made or graph.name not in names:
                    continue
                if native:
                    made[graph.name] = maker.make(graph, folders[graph.name])
                    rows += made[graph.name].rows
                else:
                    rows += self._on_engine(maker, graph, named[graph.name], folders[graph.name])
        return rows, {name: artifact.outcome for name, artifact in made.items()}

    def _on_engine(
        self, maker: ArtifactMaker, graph: Graph, config: ModelConfig, folder: Path
    ) -> list[ParityRow]:
        spec, path = self._spec, folder / FILE
        if spec.model.engine == "torch":
            self._progress.step(f"export {graph.name}")
            save_checkpoint(graph, folder)
        else:
            maker.export(graph, path)
        self._progress.step(f"verify {graph.name}")
        samples = list(graph.samples())
        with artifact_errors(graph.name):
            if spec.model.engine == "openvino":
                run = openvino_run(path, spec.model.openvino or OpenVino())
            else:
                run = torch_run(folder, config)
            return verify_run(graph.name, run, samples, spec.tolerance)
