"""The model configs of the arr-coc pipeline."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from builder.arr_coc.facts import SourceFacts
from builder.render.generation import ANSWER, REQUEST_OPTIONS
from builder.render.inputs import answered
from builder.render.model_config import (
    EnsembleStep,
    InstanceGroup,
    ModelConfig,
    Tensor,
    Warmup,
)
from builder.render.settings import (
    GRAPH_LEVELS,
    decoder_values,
    device,
    instances,
    session_parameters,
    with_settings,
)
from builder.runtime.models.common.settings import to_parameters
from builder.runtime.models.language.language_settings import LanguageSettings
from builder.runtime.models.preprocess.preprocess_settings import PreprocessSettings
from builder.spec.models import OnnxStage, Spec

BESIDE = (
    Tensor("CANCEL", "BOOL", (1,), optional=True),
    Tensor("WATCH", "BOOL", (1,), optional=True),
)
PROMPT = Tensor("PROMPT", "STRING", (1,))


def _shared(values: Iterable[int]) -> int:
    """A number that all of them are; -1 where they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else -1


class _Pipeline:
    """Builds the configs of one spec."""

    def __init__(self, spec: Spec, facts: SourceFacts) -> None:
        self.spec = spec
        self.facts = facts
        self.several = spec.max_pictures > 1
        self.question = (Tensor("IMAGE", "STRING", (-1 if self.several else 1,)), PROMPT)
        # A dim that all grids share is fixed in the graphs, so Triton wants it fixed here.
        cells, self.rows, self.cols = (
            _shared(getattr(grid, name) for grid in spec.all_grids)
            for name in ("cells", "rows", "cols")
        )
        self.pixels = self._pixels(self.rows, self.cols)
        self.query = (
            Tensor("query_ids", "INT32", (spec.limits.max_query_tokens,)),
            Tensor("query_length", "INT32", (1,)),
        )
        self.prompt = Tensor("prompt_ids", "INT32", (-1,))
        pruned = spec.prune == "before_vision"
        seen = spec.kept_tokens if pruned else -1 if self.several else cells
        self.visual: tuple[Tensor, ...] = (
            Tensor("image_embeds", "FP32", (seen, facts.hidden_size)),
        )
        if facts.deepstack_layers:
            dims = (facts.deepstack_layers, seen, facts.hidden_size)
            self.visual += (Tensor("deepstack", "FP32", dims),)
        self.kept = Tensor("kept_indices", "INT32", (spec.kept_tokens,))
        map_dims = (-1 if self.several else self.rows, self.cols)
        self.relevance_map = Tensor("relevance_map", "FP32", map_dims)
        self.seen = (self.pixels, self.kept) if pruned else (self.pixels,)

    def _pixels(self, rows: int, cols: int, pictures: int = -1) -> Tensor:
        """The pictures of a request; -1 cells in a direction: any of several grids."""
        sides = (-1 if cells == -1 else cells * self.facts.cell_size for cells in (rows, cols))
        return Tensor("pixels", "UINT8", (*((pictures,) if self.several else ()), *sides, 3))

    def _warmups(self, inputs: tuple[Tensor, ...]) -> tuple[Warmup, ...]:
        """One request a grid, about one picture."""
        grids = self.spec.all_grids
        names = ["one"] if len(grids) == 1 else [str(grid) for grid in grids]
        warmups = []
        for name, grid in zip(names, grids, strict=True):
            pixels = self._pixels(*grid.shape, 1)
            tensors = tuple(pixels if tensor is self.pixels else tensor for tensor in inputs)
            warmups.append(Warmup(name, 1, tensors))
        return tuple(warmups)

    def preprocess(self) -> ModelConfig:
        """Picture and question to pixels and ids, on the CPU everywhere."""
        stage, limits = self.spec.stages.preprocess, self.spec.limits
        return ModelConfig(
            backend="python",
            name=stage.name,
            max_batch_size=stage.max_batch_size,
            inputs=self.question,
            outputs=(self.pixels, *self.query, self.prompt),
            instance_group=(InstanceGroup(stage.instances.count, "CPU"),),
            dynamic_batching=stage.dynamic_batching,
            parameters=to_parameters(
                PreprocessSettings(
                    cell_size=self.facts.cell_size,
                    grids=self._grids(),
                    max_image_pixels=limits.max_image_pixels,
                    max_pictures=self.spec.max_pictures,
                    max_query_tokens=limits.max_query_tokens,
                    prompt_prefixes=self._prefixes(),
                    prompt_suffix=self.facts.prompt.suffix,
                )
            ),
        )

    def _graph(
        self,
        stage: OnnxStage,
        inputs: tuple[Tensor, ...],
        outputs: tuple[Tensor, ...],
        backend: str,
    ) -> ModelConfig:
        settings = stage.onnxruntime
        onnx = backend == "onnxruntime"
        return ModelConfig(
            backend=backend,
            name=stage.name,
            max_batch_size=stage.max_batch_size,
            inputs=inputs,
            outputs=outputs,
            instance_group=(instances(stage.instances, self.spec.target),),
            dynamic_batching=stage.dynamic_batching,
            parameters=session_parameters(settings) if onnx else {},
            graph_level=GRAPH_LEVELS[settings.graph_optimization] if onnx else None,
            warmup=self._warmups(inputs),
        )

    def vision(self) -> ModelConfig:
        """Pixels to visual embeddings, of the kept cells alone with `prune: before_vision`."""
        backend = "tensorrt" if self.spec.target == "tensorrt" else "onnxruntime"
        return self._graph(self.spec.stages.vision, self.seen, self.visual, backend)

    def relevance(self) -> ModelConfig:
        """Pixels and question to kept cells. ONNX Runtime everywhere: TensorRT has no fp64."""
        inputs = (self.pixels, *self.query)
        outputs = (self.kept, self.relevance_map)
        return self._graph(self.spec.stages.relevance, inputs, outputs, "onnxruntime")

    def _prefixes(self) -> tuple[str, ...]:
        """The chat format up to the question, for each number of pictures."""
        return tuple(self.facts.prompt.prefixes(self.facts.tokenizer, self.spec.max_pictures))

    def _grids(self) -> str:
        return ",".join(str(grid) for grid in self.spec.all_grids)

    def _for_language(self) -> tuple[Tensor, ...]:
        return (self.prompt, *self.visual, self.kept, self.relevance_map)

    def language(self) -> ModelConfig:
        """Kept tokens and prompt to a stream of text."""
        stage, spec = self.spec.stages.language, self.spec
        return ModelConfig(
            backend="python",
            name=stage.name,
            max_batch_size=1,
            # Optional all of them: a request with CANCEL or WATCH has no others.
            inputs=(
                *(replace(tensor, optional=True) for tensor in self._for_language()),
                *REQUEST_OPTIONS,
                *BESIDE,
            ),
            outputs=ANSWER,
            instance_group=(InstanceGroup(1, device(stage.kind, spec.target)),),
            decoupled=True,
            parameters=to_parameters(
                LanguageSettings(
                    **decoder_values(stage),
                    default_max_tokens=spec.limits.default_max_tokens,
                    end_token_ids=tuple(self.facts.end_token_ids),
                    grids=self._grids(),
                    image_token_id=self.facts.image_token_id,
                    kept_tokens=spec.kept_tokens,
                    max_sequence_length=stage.max_sequence_length,
                    max_tokens=spec.limits.max_tokens,
                    prune=spec.prune,
                )
            ),
        )

    def ensemble(self) -> ModelConfig:
        """The pipeline: vision and relevance run side by side, or vision after relevance."""
        stages = self.spec.stages

        def step(
            name: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
        ) -> EnsembleStep:
            taken, given = ({tensor.name: tensor.name for tensor in s} for s in (inputs, outputs))
            return EnsembleStep(name, taken, given)

        return ModelConfig(
            backend="ensemble",
            name=self.spec.name,
            max_batch_size=1,
            inputs=answered((*self.question, *REQUEST_OPTIONS)),
            outputs=ANSWER,
            steps=(
                step(
                    stages.preprocess.name, self.question, (self.pixels, *self.query, self.prompt)
                ),
                step(stages.vision.name, self.seen, self.visual),
                step(
                    stages.relevance.name,
                    (self.pixels, *self.query),
                    (self.kept, self.relevance_map),
                ),
                step(
                    stages.language.name,
                    (*self._for_language(), *REQUEST_OPTIONS),
                    ANSWER,
                ),
            ),
        )


def pipeline_configs(spec: Spec, facts: SourceFacts) -> list[ModelConfig]:
    """Every model config of the pipeline, the ensemble last."""
    pipeline = _Pipeline(spec, facts)
    return [
        pipeline.preprocess(),
        pipeline.vision(),
        pipeline.relevance(),
        pipeline.language(),
        pipeline.ensemble(),
    ]


def served_configs(spec: Spec, facts: SourceFacts, base: Path) -> list[ModelConfig]:
    """The configs with all that the spec says of each model.

    Args:
        spec: The spec.
        facts: Facts of its checkpoint.
        base: Folder of the spec file.

    Raises:
        SpecError: a setting has no meaning for its model.
    """
    settings = {stage.name: stage for stage in spec.stage_list()}
    return [
        with_settings(
            config,
            settings.get(config.name, spec.ensemble),
            target=spec.target,
            release=spec.triton_release,
            base=base,
        )
        for config in pipeline_configs(spec, facts)
    ]
