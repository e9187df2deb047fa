"""The verdict on a repository: read the models, complete the configs, run the rules."""

import stat
from collections.abc import Iterator
from pathlib import Path

from builder.errors import BuilderError
from builder.spec.releases import built_for
from builder.validate import effective, rules
from builder.validate.findings import Finding, Problem
from builder.validate.ignores import Ignores
from builder.validate.model import Model
from builder.validate.onnx_graph import GraphSignature
from builder.validate.registry import RULES, Rule
from builder.validate.repository import CONFIG_LIMIT, CONFIG_NAME, Repository, UnreadableError
from builder.validate.target import Target
from builder.validate.textproto import ParsedConfig, parse

__all__ = ["load_models", "release_of_repository", "validate_models", "validate_repository"]

assert rules.__all__, "importing the package registers the rules"


def validate_repository(path: Path, target: Target | None = None) -> list[Finding]:
    """Findings on every model of a repository, sorted; empty if Triton loads all of them.

    Raises `BuilderError` where `path` is no folder of models.
    """
    return validate_models(load_models(path, target))


def load_models(path: Path, target: Target | None = None) -> dict[str, Model]:
    """Read the models of a repository by name and complete their configs.

    Raises `BuilderError` where `path` is no folder of models.
    """
    repository = Repository(Path(path))
    root = repository.folder(repository.root)
    if root.error:
        raise BuilderError(f"{path} cannot be listed: {root.error}; make it readable")
    names = [e.name for e in root.entries.values() if e.is_dir or e.outside]
    if not names:
        raise BuilderError(f"{path} holds no model; give the folder of the models' folders")
    models: dict[str, Model] = {}
    for name in sorted(names):
        models[name] = _load_model(repository, name, target or Target())
        models[name].siblings = models
    return models


def release_of_repository(path: Path) -> str:
    """The Triton release that a repository was built for; the default one if nobody built it.

    Raises `BuilderError` where `path` is no folder of models.
    """
    return built_for(Repository(Path(path)).build_manifest)


def validate_models(models: dict[str, Model]) -> list[Finding]:
    """Findings on loaded models, sorted."""
    findings: list[Finding] = []
    for model in _in_order(models):
        found = list(_judge(model))
        model.failed = any(finding.severity == "error" for finding in found)
        findings += found
    return sorted(findings, key=lambda finding: finding.order)


def _load_model(repository: Repository, name: str, target: Target) -> Model:
    path = repository.root / name
    model = Model(name, path, repository, target, ParsedConfig(None))
    if not name.isprintable() and any(0xDC80 <= ord(c) <= 0xDCFF for c in name):
        model.config_read_error = "the folder's name is no UTF-8"
        return model
    try:
        data = _read_config(model)
    except UnreadableError as error:
        model.config_read_error = str(error)
        return model
    model.has_config = data is not None
    model.parsed = parse(data or b"", target)
    if model.parsed.message is not None:
        model.declared.CopyFrom(model.parsed.message)
        model.config.CopyFrom(model.parsed.message)
        _complete(model)
    return model


def _read_config(model: Model) -> bytes | None:
    path = model.path / CONFIG_NAME
    try:
        path.lstat()
    except OSError:
        return None
    if stat.S_ISLNK(path.lstat().st_mode) and not path.exists():
        return None
    return model.repository.read(path, CONFIG_LIMIT)


def _complete(model: Model) -> None:
    config = model.config
    model.completion_error = effective.complete_server_fields(
        config, model.name, model.first_version_folder, model.target
    )
    effective.normalize(config)
    effective.normalize_instances(config, model.target)
    if config.backend == "onnxruntime" and model.versions:
        graph = model.onnx_graphs[model.versions[-1]]
        if isinstance(graph, GraphSignature):
            effective.complete_from_onnx(config, graph, model.target)
            effective.normalize(config)
    model.decoupled = config.model_transaction_policy.decoupled
    model.open_ended = any(
        source.inherits or source.imported or "auto_complete_config" in source.methods
        for source in model.python_models.values()
    )


def _in_order(models: dict[str, Model]) -> Iterator[Model]:
    """Models before the ensembles that need them; ensembles in a circle come last."""
    waiting = {name: model for name, model in models.items() if model.is_ensemble}
    yield from (model for name, model in models.items() if name not in waiting)
    while waiting:
        ready = [
            name
            for name, model in waiting.items()
            if not any(s.model_name in waiting for s in model.config.ensemble_scheduling.step)
        ]
        for name in ready or list(waiting):
            yield waiting.pop(name)


def _judge(model: Model) -> Iterator[Finding]:
    ignores = Ignores(model.parsed.comments)
    for rule in RULES.values():
        if rule.needs_config and model.unusable:
            continue
        for problem in rule.check(model):
            finding = _finding(model, rule, problem)
            if not ignores.cover(finding):
                yield finding


def _finding(model: Model, rule: Rule, problem: Problem) -> Finding:
    file, line = problem.file, problem.line
    if not file:
        file = model.file(model.path / CONFIG_NAME)
        if not model.has_config:
            file, line = model.file(model.path), 0
        elif not line and not model.config_read_error:
            line = model.parsed.line(problem.field)
    return Finding(
        model.name,
        rule.id,
        problem.field,
        problem.message,
        rule.severity,
        file,
        line,
        problem.mend,
    )
