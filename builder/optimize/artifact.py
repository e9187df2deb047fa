"""The artifact that a spec asks for, from one exported fp32 file."""

import functools
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from builder.errors import BuilderError, SpecError
from builder.optimize import floats, integers
from builder.optimize.calibration import Arrays, Told, calibrate, nobody
from builder.optimize.choice import Choice, choose
from builder.optimize.fusion import fuse
from builder.optimize.rewrite import load, save
from builder.optimize.sensitivity import SHARES, by_harm
from builder.optimize.variants import Variant, file_size, time_files
from builder.spec.models import Tolerance
from builder.spec.precision import ArtifactPrecision, Precision
from builder.spec.releases import OnnxLimits
from builder.verify.measure import ParityRow

_FOR_CPU: Final[tuple[ArtifactPrecision, ...]] = ("int8-dynamic", "int8-static", "int4")


@dataclass(frozen=True)
class Surroundings:
    """What an artifact is made for and measured with.

    Attributes:
        target: Where it runs.
        limits: What the Triton release can load.
        exact: Tolerance of fp32.
        threads: Intra-op threads of the served session.
        verify: Parity of a file with the checkpoint under a tolerance.
        feeds: Inputs that candidates are timed with.
        calibration: Inputs for int8-static, without padding; None: no data is named.
        accuracy: Share of labelled records that a file answers right; None: no data is named.
        state: Folder that a killed calibration goes on from.
        told: Told how far the calibration is.
    """

    target: Literal["cpu", "gpu"]
    limits: OnnxLimits
    exact: Tolerance
    threads: int
    verify: Callable[[Path, Tolerance], list[ParityRow]]
    feeds: Sequence[Arrays]
    calibration: Callable[[], Iterable[Arrays]] | None = None
    accuracy: Callable[[Path], float] | None = None
    state: Path | None = None
    told: Told = field(default=nobody)


@dataclass(frozen=True)
class Outcome:
    """What was made.

    Attributes:
        variants: The candidates, fp32 first.
        chosen: The one that was taken.
        reason: Why, for `auto`; else that it was asked for.
    """

    variants: list[Variant]
    chosen: Variant
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For the manifest and the report."""
        return {
            "precision": self.chosen.precision,
            "reason": self.reason,
            "variants": [variant.as_dict() for variant in self.variants],
        }


def candidates(settings: Precision, around: Surroundings) -> list[ArtifactPrecision]:
    """The precisions that are made, fp32 first.

    Raises:
        SpecError: what is asked for does not go with the target.
    """
    asked = settings.precision
    if around.target == "gpu":
        if asked == "auto":
            raise SpecError(
                "precision auto measures on this machine's CPU, which says nothing about a GPU; "
                "set fp16 or fp32"
            )
        if asked in _FOR_CPU:
            raise SpecError(
                f"precision {asked} is for target cpu: ONNX Runtime has no CUDA kernels for it; "
                "set fp16"
            )
    if asked == "auto":
        static: list[ArtifactPrecision] = ["int8-static"] if settings.calibration else []
        return ["fp32", "int8-dynamic", *static, "int4"]
    return ["fp32"] if asked == "fp32" else ["fp32", asked]


class _Workshop:
    """Makes the candidates of one graph."""

    def __init__(self, settings: Precision, around: Surroundings, folder: Path, name: str) -> None:
        self.name = name
        self.settings = settings
        self.around = around
        self.folder = folder

    def path(self, precision: ArtifactPrecision) -> Path:
        """Where a candidate stands: it names the file of its weights, so only folders differ."""
        return self.folder / precision / self.name

    def fuse(self, source: Path) -> None:
        """Make the fp32 candidate."""
        path = self.path("fp32")
        path.parent.mkdir(parents=True)
        scratch = self.folder / "scratch"
        scratch.mkdir()
        save(fuse(source, self.settings.optimize, self.around.limits, scratch), path)
        shutil.rmtree(scratch)

    def convert(self, precision: ArtifactPrecision, keep: Sequence[int] = ()) -> None:
        """Make another candidate from the fp32 one, some products of int8 left as they are."""
        settings, path = self.settings, self.path(precision)
        model = load(self.path("fp32"))
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        match precision:
            case "int8-dynamic":
                integers.quantize_dynamic(model, keep=keep, reduce_range=settings.reduce_range)
            case "int8-static":
                integers.quantize_static(
                    model, self.ranges, keep=keep, reduce_range=settings.reduce_range
                )
            case "int4":
                integers.quantize_blocks(model, block_size=settings.block_size)
            case "fp16" | "bf16":
                if precision == "fp16" and self.around.target == "gpu":
                    model = floats.compute_in_fp16(model)
                else:
                    floats.store_as(model, precision)
            case "fp32":
                raise AssertionError(precision)
        save(model, path)

    @functools.cached_property
    def harmed(self) -> list[int]:
        """Places of the products, from those that 8 bits harm most to the least."""
        scratch = self.folder / "harm"
        scratch.mkdir()
        places = by_harm(self.path("fp32"), self.around.feeds, scratch)
        shutil.rmtree(scratch)
        return places

    @functools.cached_property
    def ranges(self) -> dict[str, integers.Range]:
        """Ranges of the activations, by calibration."""
        calibration, around = self.settings.calibration, self.around
        if calibration is None or around.calibration is None:
            raise SpecError("precision int8-static needs calibration.data, a file of JSON lines")
        scratch = self.folder / "observed"
        scratch.mkdir()
        ranges = calibrate(
            self.path("fp32"),
            around.calibration(),
            scratch,
            method=calibration.method,
            percentile=calibration.percentile,
            samples=calibration.samples,
            state=around.state / "ranges.npz" if around.state else None,
            told=around.told,
        )
        shutil.rmtree(scratch)
        return ranges

    def within(self, precision: ArtifactPrecision) -> Variant:
        """A candidate with as many products in int8 as its tolerance allows.

        Where half of them are not enough, it is the one with all of them.
        """
        self.convert(precision)
        first = variant = self.verified(precision)
        if variant.within or not precision.startswith("int8"):
            return variant
        total = len(self.harmed)
        for share in SHARES[1:]:
            kept = math.ceil(share * total)
            self.convert(precision, self.harmed[:kept])
            variant = replace(self.verified(precision), kept=kept, products=total)
            if variant.within:
                return variant
        self.convert(precision)
        return first

    def verified(self, precision: ArtifactPrecision) -> Variant:
        """A candidate that stands there, compared with the checkpoint."""
        around, path = self.around, self.path(precision)
        tolerance = self.settings.tolerance(precision, around.exact)
        return Variant(
            precision,
            path,
            size=file_size(path),
            rows=around.verify(path, tolerance),
            threads=around.threads,
            accuracy=around.accuracy(path) if around.accuracy else None,
        )


def _timed(variants: list[Variant], around: Surroundings) -> list[Variant]:
    """The same, each with its time and its speed beside fp32."""
    able: dict[str, Path] = {
        variant.precision: variant.path for variant in variants if variant.failure is None
    }
    # What a CPU takes says nothing about a GPU.
    if len(able) < 2 or around.target != "cpu":
        return variants
    seconds = time_files(able, around.feeds, around.threads)
    return [
        variant
        if variant.failure is not None
        else replace(
            variant,
            milliseconds=seconds[variant.precision] * 1e3,
            speed=seconds["fp32"] / seconds[variant.precision],
        )
        for variant in variants
    ]


def make_artifact(
    source: Path, path: Path, settings: Precision, around: Surroundings, folder: Path
) -> Outcome:
    """Fuse, convert, measure and choose.

    Args:
        source: The exported fp32 file.
        path: The artifact to write; large weights go to a file beside it.
        settings: What the spec asks for.
        around: What it is made for and measured with.
        folder: An empty folder for the candidates; peak use is the sum of their sizes.

    Raises:
        SpecError: what is asked for does not go with the target or lacks its data.
        BuilderError: it can't be made.
    """
    names = candidates(settings, around)
    workshop = _Workshop(settings, around, folder, path.name)
    workshop.fuse(source)
    variants = [workshop.verified("fp32")]
    for name in names[1:]:
        try:
            variants.append(workshop.within(name))
        except BuilderError as error:
            if settings.precision != "auto" or isinstance(error, SpecError):
                raise
            variants.append(Variant(name, workshop.path(name), failure=str(error)))
    variants = _timed(variants, around)
    if settings.precision == "auto":
        choice = choose(variants, settings.max_accuracy_drop)
    else:
        choice = Choice(variants[-1], f"{variants[-1].name}: as the spec asks.")
    chosen = choice.variant
    for part in chosen.path.parent.iterdir():
        shutil.move(part, path.parent / part.name)
    return Outcome(variants, replace(chosen, path=path), choice.reason)
