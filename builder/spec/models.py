"""The spec: what is built, typed."""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, model_validator

from builder.spec.batching import Batched, DynamicBatching, OnnxRuntime, PositiveInt, Strict
from builder.spec.language import MODEL_NAME, LanguageStage, Precision
from builder.spec.releases import DEFAULT_RELEASE, TritonRelease
from builder.spec.triton.model import EnsembleSettings

Target = Literal["cpu", "gpu", "tensorrt"]
Prune = Literal["after_vision", "before_vision"]


class CheckpointSource(Strict):
    """A folder or a repository of the hub."""

    path: str = Field(
        min_length=1, description="A local folder (relative to the spec file) or a hub id."
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    trust_remote_code: bool = Field(
        default=False, description="Run Python code that comes with the checkpoint."
    )


class Checkpoint(CheckpointSource):
    """Where the source weights come from."""

    relevance: Literal["checkpoint", "untrained"] = Field(
        default="checkpoint",
        description="Relevance modules: from the checkpoint folder, or freshly initialized "
        "(from `seed`) for a base model that has none.",
    )


class Grid(Strict):
    """Token cells that a picture is divided into."""

    rows: Annotated[int, Field(ge=1, le=128)] = 32
    cols: Annotated[int, Field(ge=1, le=128)] = 32

    @property
    def cells(self) -> int:
        """Token cells of a picture."""
        return self.rows * self.cols

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.cols

    def __str__(self) -> str:
        """`ROWSxCOLS`, as in the model configs."""
        return f"{self.rows}x{self.cols}"


class Limits(Strict):
    """What a request may ask for."""

    max_image_pixels: PositiveInt = Field(
        default=40_000_000, description="Larger pictures are refused before they are decoded."
    )
    max_query_tokens: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=128, description="Longest question, in tokens."
    )
    max_tokens: PositiveInt = Field(default=256, description="Longest answer, in tokens.")
    default_max_tokens: PositiveInt = Field(
        default=64, description="Longest answer of a request that does not say."
    )

    @model_validator(mode="after")
    def _default_fits(self) -> "Limits":
        if self.default_max_tokens > self.max_tokens:
            raise ValueError(
                f"default_max_tokens {self.default_max_tokens} is larger than max_tokens "
                f"{self.max_tokens}"
            )
        return self


class PreprocessStage(Batched):
    """Python stage: decode, resize, tokenize."""

    name: str = Field(default="preprocess", pattern=MODEL_NAME)


class OnnxStage(Batched):
    """A stage that is one exported graph."""

    name: str = Field(pattern=MODEL_NAME)
    precision: Precision | None = Field(
        default=None, description="null: the target's own (fp32 on cpu, fp16 on gpu and tensorrt)."
    )
    onnxruntime: OnnxRuntime = Field(default_factory=OnnxRuntime)


class VisionStage(OnnxStage):
    """Pixels to visual embeddings."""

    name: str = Field(default="vision", pattern=MODEL_NAME)


class RelevanceStage(OnnxStage):
    """Pixels and question to the kept token cells. fp64 inside: see `arr_coc.modules.texture`."""

    name: str = Field(default="relevance", pattern=MODEL_NAME)
    precision: Literal["fp64"] = "fp64"  # type: ignore[assignment]


class Stages(Strict):
    """The four stages of the pipeline."""

    preprocess: PreprocessStage = Field(default_factory=PreprocessStage)
    vision: VisionStage = Field(default_factory=VisionStage)
    relevance: RelevanceStage = Field(default_factory=RelevanceStage)
    language: LanguageStage = Field(default_factory=LanguageStage)


class Tolerance(Strict):
    """How far an artifact may be from its source model."""

    max_abs_error: Annotated[float, Field(gt=0)] = 1e-3
    min_cosine: Annotated[float, Field(gt=0, le=1)] = 0.9999


class Verify(Strict):
    """Parity checks before anything is published."""

    batch_sizes: list[PositiveInt] = Field(default_factory=lambda: [1, 2, 5], min_length=1)
    pictures: list[str] = Field(
        default_factory=list,
        description="Picture files to check with, relative to the spec file; none: the pictures "
        "that ship with scikit-image where it is installed, else generated ones.",
    )
    fp32: Tolerance = Field(default_factory=Tolerance)
    fp16: Tolerance = Field(default_factory=lambda: Tolerance(max_abs_error=0.1, min_cosine=0.999))
    int8: Tolerance = Field(default_factory=lambda: Tolerance(max_abs_error=1.0, min_cosine=0.99))
    int4: Tolerance = Field(default_factory=lambda: Tolerance(max_abs_error=5.0, min_cosine=0.8))


class Spec(Strict):
    """One arr-coc pipeline: checkpoint in, Triton model repository out."""

    name: str = Field(pattern=MODEL_NAME, description="Name of the ensemble.")
    checkpoint: Checkpoint
    triton_release: TritonRelease = Field(
        default=DEFAULT_RELEASE,
        pattern=r"^\d{2}\.\d{2}$",
        description="Server release that the repository is built for; bounds opset and IR.",
    )
    target: Target = "cpu"
    seed: Annotated[int, Field(ge=0)] = 0
    grid: Grid = Field(default_factory=Grid)
    grids: list[Grid] = Field(
        default_factory=list,
        max_length=7,
        description="Further grids, of other aspect ratios than `grid` and each other: a request "
        "takes the one whose aspect ratio is nearest to its picture's. Not for target tensorrt.",
    )
    max_pictures: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1,
        description="Most pictures of a request. With 2 or more the tensors between the stages "
        "have a dim for them, `kept_tokens` are kept of all of them together, and "
        "`limits.max_image_pixels` bounds their sum. Not for target tensorrt.",
    )
    kept_tokens: PositiveInt = Field(
        default=200, description="K: visual tokens that reach the language model at most."
    )
    prune: Prune = Field(
        default="after_vision",
        description="after_vision: the vision tower sees the whole picture, beside relevance; "
        "before_vision: it sees only the kept cells, after relevance, at a cost that falls with K "
        "(an approximation: kept cells no longer see the others).",
    )
    limits: Limits = Field(default_factory=Limits)
    stages: Stages = Field(default_factory=Stages)
    ensemble: EnsembleSettings = Field(
        default_factory=EnsembleSettings, description="Settings of the ensemble itself."
    )
    verify: Verify = Field(default_factory=Verify)

    @model_validator(mode="after")
    def _fits_together(self) -> "Spec":
        for grid in self.all_grids:
            if self.kept_tokens > grid.cells:
                raise ValueError(
                    f"kept_tokens {self.kept_tokens} is larger than the {grid.cells} cells of the "
                    f"{grid.rows} x {grid.cols} grid"
                )
        if self.grids:
            self._check_grids()
        if self.max_pictures > 1 and self.target == "tensorrt":
            raise ValueError(
                "a TensorRT engine is built for one picture a request; remove 'max_pictures' or "
                "build for target gpu"
            )
        names = [self.name, *(stage.name for stage in self.stage_list())]
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise ValueError(f"two models are named '{doubled.pop()}'; names must differ")
        return self

    def _check_grids(self) -> None:
        if self.target == "tensorrt":
            raise ValueError(
                "a TensorRT engine is built for one grid; remove 'grids' or build for target gpu"
            )
        aspects: dict[Fraction, Grid] = {}
        for grid in self.all_grids:
            if min(grid.shape) < 2:
                raise ValueError(
                    f"the {grid.rows} x {grid.cols} grid is a single line of cells, which can't be "
                    "one of several grids; give it two at least"
                )
            other = aspects.setdefault(Fraction(grid.cols, grid.rows), grid)
            if other is not grid:
                raise ValueError(
                    f"the grids {other.rows} x {other.cols} and {grid.rows} x {grid.cols} have the "
                    "same aspect ratio; a picture's aspect ratio could not choose between them"
                )

    @property
    def all_grids(self) -> tuple[Grid, ...]:
        """`grid` and the further ones."""
        return (self.grid, *self.grids)

    def stage_list(self) -> tuple[PreprocessStage, VisionStage, RelevanceStage, LanguageStage]:
        """The stages in the order in which a request meets them."""
        stages = self.stages
        return stages.preprocess, stages.vision, stages.relevance, stages.language

    def precision_of(self, stage: VisionStage | LanguageStage) -> Precision:
        """The precision a stage is built with, the target's own where the spec says none."""
        return stage.precision or ("fp32" if self.target == "cpu" else "fp16")


__all__ = [
    "Batched",
    "Checkpoint",
    "CheckpointSource",
    "DynamicBatching",
    "Grid",
    "LanguageStage",
    "Limits",
    "OnnxRuntime",
    "OnnxStage",
    "Precision",
    "PreprocessStage",
    "Prune",
    "RelevanceStage",
    "Spec",
    "Stages",
    "Target",
    "Tolerance",
    "Verify",
    "VisionStage",
]
