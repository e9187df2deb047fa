"""One member of a repository while it is built: its files in the staging folder, its record."""

import json
import shutil
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from builder.errors import PublishError
from builder.publish.manifest import (
    Manifest,
    MemberRecord,
    Source,
    VersionRecord,
    package_versions,
)
from builder.publish.ownership import keep_foreign_files
from builder.publish.staging import Staging, copy_entry
from builder.publish.versions import (
    next_version,
    parse_config,
    refuse_other_signature,
    serving_config,
)
from builder.recipe import VERSION, Artifact, Recipe, Workshop
from builder.render.models import write_models
from builder.runtime.models.common.settings import PARAMETERS_NAME
from builder.verify.measure import ParityRow


class MemberBuild:
    """What a build does for one member."""

    def __init__(
        self,
        recipe: Recipe,
        origin: str,
        manifest: Manifest,
        staging: Staging,
        workshop: Workshop,
        version: str | None,
    ) -> None:
        """Prepare.

        Args:
            recipe: How it is made.
            origin: Name of its spec file.
            manifest: Of the repository as it is.
            staging: Where it is written.
            workshop: What artifacts are made with.
            version: The version to write, a number or `next`; None: the one that answers.

        Raises:
            BuilderError: the spec asks for what can't be had.
        """
        self.recipe = recipe
        self.name = recipe.spec.name
        self.configs = recipe.configs()
        self.foreign: list[str] = []
        self._origin = origin
        self._manifest = manifest
        self._old = manifest.members.get(self.name)
        self._staging = staging
        self._workshop = workshop
        self.version = next_version(version, self._old)
        self._selected = [config.name for config in self.configs]
        self._texts: dict[str, str] = {}

    @property
    def old_models(self) -> list[str]:
        """Names of the models that the member had before."""
        return self._old.models if self._old else []

    @property
    def _others(self) -> dict[int, VersionRecord]:
        """The versions that stay as they are."""
        known = self._old.versions if self._old else {}
        return {number: record for number, record in known.items() if number != self.version}

    def select(self, only: str) -> None:
        """Build one model anew; the others stay as they are.

        Raises:
            PublishError: the repository lacks another one.
        """
        target = self._staging.target
        missing = sorted({config.name for config in self.configs} - {only} - set(self.old_models))
        if missing:
            raise PublishError(
                f"--only {only}: {target} has no built '{missing[0]}' to go with it; "
                "build everything first"
            )
        if self._old and self.version != self._old.live:
            raise PublishError(f"--only {only}: a new version needs every model of {self.name}")
        self._selected = [only]

    @cached_property
    def artifacts(self) -> list[Artifact]:
        """What must be made, or taken out of the cache."""
        return self.recipe.artifacts(self._selected, self._workshop)

    def folder(self, model: str) -> Path:
        """Where a model's files are made."""
        return self._staging.path / model / VERSION

    def write(self) -> None:
        """Everything but artifacts."""
        folder = self._staging.path
        stages = self.recipe.stages()
        self._texts = write_models(self.configs, stages, self._origin, folder, VERSION)
        self.recipe.write_files(folder)
        for config in self.configs:
            if config.name not in self._selected:
                shutil.rmtree(folder / config.name)
                self._take_over(config.name)

    def _take_over(self, model: str, version: int | None = None) -> None:
        """Files of the builder's in the repository as it is, of one version or of all."""
        start = f"{model}/" if version is None else f"{model}/{version}/"
        for name in self._manifest.files:
            if name.startswith(start):
                place = self._staging.path / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.unlink(missing_ok=True)
                copy_entry(self._staging.target / name, place)

    def arrange(self) -> None:
        """Put the version in its place, beside the others that the member has.

        Raises:
            PublishError: the versions differ in what clients see.
        """
        if self.version != int(VERSION):
            for name in self._selected:
                self.folder(name).rename(self._staging.path / name / str(self.version))
                self._texts[name] = _moved(self._texts[name], self.version)
                (self._staging.path / name / "config.pbtxt").write_text(self._texts[name])
        others = self._others
        if not others:
            return
        for number, record in others.items():
            refuse_other_signature(self.name, self._configs_of(record), self._texts, number)
        ensembles = {config.name for config in self.configs if config.backend == "ensemble"}
        for name in {config.name for config in self.configs} - ensembles:
            for number in others:
                self._take_over(name, number)
        self._keep_parameters()
        for name in self._selected:
            text = serving_config(
                self._texts[name],
                self.version,
                self._beside,
                [*others, self.version],
                self._models,
            )
            (self._staging.path / name / "config.pbtxt").write_text(text)

    @property
    def _models(self) -> list[str]:
        return [config.name for config in self.configs]

    @property
    def _beside(self) -> int:
        """The version that stays loaded while this one takes its place."""
        live = self._old.live if self._old else self.version
        return live if live != self.version else max(self._others)

    def _configs_of(self, record: VersionRecord) -> Mapping[str, str]:
        if record.configs:
            return record.configs
        root = self._staging.target
        return {name: (root / name / "config.pbtxt").read_text() for name in self.old_models}

    def _keep_parameters(self) -> None:
        """Each version's own, beside its sources: one config holds for all of them."""
        texts = {number: self._configs_of(record) for number, record in self._others.items()}
        texts[self.version] = self._texts
        for number, configs in texts.items():
            for name in self.recipe.stages():
                values = parse_config(configs[name]).parameters
                own = {key: value.string_value for key, value in values.items()}
                own["model_version"] = str(number)
                path = self._staging.path / name / str(number) / PARAMETERS_NAME
                path.unlink(missing_ok=True)  # it may be a hard link
                path.write_text(json.dumps(own, indent=2, ensure_ascii=False) + "\n")

    def keep_foreign_files(self) -> None:
        """Copy what a person put into the member's folders.

        Raises:
            PublishError: the build would write over it, or its model goes.
        """
        self.foreign = keep_foreign_files(
            self._staging.target, self._manifest, self.old_models, self._staging.path
        )

    def record(self, rows: Iterable[ParityRow], precision: Mapping[str, Any]) -> MemberRecord:
        """What the manifest says of the member.

        Args:
            rows: Parity of every artifact of the build.
            precision: Model name -> what was measured for it.
        """
        parity = [row.as_dict() for row in rows if row.artifact in self._models]
        outcomes = {name: value for name, value in precision.items() if name in self._models}
        before = self._old.versions.get(self.version) if self._old else None
        if before is not None and len(self._selected) < len(self.configs):
            parity += [r for r in before.parity if r.get("artifact") not in self._selected]
            kept = before.precision.items()
            outcomes = {n: v for n, v in kept if n not in self._selected} | outcomes
            self._texts |= {n: v for n, v in before.configs.items() if n not in self._selected}
        version = VersionRecord(
            spec=self.recipe.spec.model_dump(mode="json"),
            source=Source.of(self.recipe.hashes()),
            packages=package_versions(),
            parity=parity,
            precision=outcomes,
            configs=self._texts,
        )
        others = {
            number: record.model_copy(update={"configs": dict(self._configs_of(record))})
            for number, record in self._others.items()
        }
        return MemberRecord(
            origin=self._origin,
            models=self._models,
            requirements=self.recipe.requirements(),
            live=self.version,
            versions=dict(sorted({**others, self.version: version}.items())),
        )


def _moved(text: str, version: int) -> str:
    """A config whose parameters name files of another version's folder."""
    start = "$$TRITON_MODEL_DIRECTORY/"
    return text.replace(f'"{start}{VERSION}/', f'"{start}{version}/')
