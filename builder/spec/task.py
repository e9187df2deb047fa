"""The spec of a task model: one Hugging Face checkpoint, raw input in, answer out."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from builder.spec.answers import Answers, Entities, ZeroShot
from builder.spec.batching import Batched, OnnxRuntime, PositiveInt, Strict
from builder.spec.engines import Engine, OpenVino, Torch
from builder.spec.generation import Generation
from builder.spec.language import MODEL_NAME
from builder.spec.models import CheckpointSource, Tolerance
from builder.spec.precision import Precision
from builder.spec.releases import DEFAULT_RELEASE, TritonRelease
from builder.spec.tasks import TASKS, tasks_with
from builder.spec.triton.model import BatchedStage, EnsembleSettings

Exporter = Literal["transformers", "torch", "optimum"]

_OWN_KEYS: Final = sorted({key for row in TASKS.values() for key in row.keys})
"""Keys that only some tasks have."""


def _known(task: str) -> str:
    if task not in TASKS:
        raise ValueError(f"there is no task '{task}'; there are {', '.join(TASKS)}")
    return task


Task = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(TASKS)})]

MAX_BATCH_SIZE = 1024


class TaskCheckpoint(CheckpointSource):
    """Where the source weights come from."""


class TaskModel(Batched, Precision):
    """The exported graph; `max_batch_size` holds for the stages around it as well."""

    exporter: Exporter = Field(
        default="transformers",
        description="transformers: its own OnnxExporter; torch: torch.onnx; "
        "optimum: optimum-cli, in the environment of `make install-optimum`. All give the same "
        "names and shapes.",
    )
    engine: Engine = Field(
        default="onnxruntime",
        description="What runs the graph in the server; names and shapes stay the same.",
    )
    onnxruntime: OnnxRuntime = Field(default_factory=OnnxRuntime)
    openvino: OpenVino | None = Field(default=None, description="Only for engine: openvino.")
    torch: Torch | None = Field(default=None, description="Only for engine: torch.")

    @model_validator(mode="after")
    def _settings_are_the_engines_own(self) -> "TaskModel":
        if self.engine != "onnxruntime" and self.precision != "fp32":
            raise ValueError(
                f"precision {self.precision} is for engine: onnxruntime, not {self.engine}"
            )
        for engine in ("openvino", "torch"):
            if getattr(self, engine) is not None and self.engine != engine:
                raise ValueError(f"{engine} is only for engine: {engine}, not {self.engine}")
        compiled = self.torch.compile if self.torch else None
        sizes = (compiled.batch_sizes if compiled else None) or [self.max_batch_size]
        if sizes[-1] != self.max_batch_size:
            raise ValueError(
                f"torch.compile.batch_sizes end at {sizes[-1]}, max_batch_size is "
                f"{self.max_batch_size}; the last must be that"
            )
        return self

    @model_validator(mode="after")
    def _batch_is_sane(self) -> "TaskModel":
        if self.max_batch_size > MAX_BATCH_SIZE:
            raise ValueError(f"max_batch_size {self.max_batch_size} is over {MAX_BATCH_SIZE}")
        return self


class TaskSpec(Strict):
    """One task model: `<name>` is the ensemble, `<name>_model` the graph for raw tensors."""

    name: str = Field(pattern=MODEL_NAME, description="Name of the ensemble.")
    task: Task
    checkpoint: TaskCheckpoint
    triton_release: TritonRelease = Field(
        default=DEFAULT_RELEASE,
        pattern=r"^\d{2}\.\d{2}$",
        description="Server release that the repository is built for; bounds opset and IR.",
    )
    target: Literal["cpu", "gpu"] = "cpu"
    sequence_buckets: list[Annotated[int, Field(ge=2)]] | None = Field(
        default=None,
        min_length=1,
        description="Lengths in tokens that texts are padded to, the smallest that fits, so that "
        "the batcher can join requests; the last is the longest text. null: powers of two from 16 "
        "up to what the checkpoint takes.",
    )
    long_text: Literal["truncate", "refuse"] = Field(
        default="truncate", description="What happens to a text longer than the last bucket."
    )
    tokenizers: PositiveInt = Field(default=1, description="Instances of the tokenizer stage.")
    join_lengths: bool | None = Field(
        default=None,
        description="true: requests with texts of unequal length join one batch. The stage that "
        "tokenizes takes them joined and asks <name>_model itself, in batches of about equal "
        "length; Triton's own batcher joins token ids of equal shape only.",
    )
    top_k: PositiveInt | None = Field(
        default=None,
        description="Answers of a text or picture, the best first. null: every label of "
        "text-classification, 5 of fill-mask and image-classification, 1 of question-answering.",
    )
    max_image_pixels: PositiveInt | None = Field(
        default=None,
        description="Larger pictures are refused before they are decoded. null: 50 million.",
    )
    entities: Entities | None = None
    zero_shot: ZeroShot | None = None
    answers: Answers | None = None
    generation: Generation | None = None
    model: TaskModel = Field(default_factory=TaskModel)
    stages: dict[str, BatchedStage] = Field(
        default_factory=dict,
        description="Settings of the stages around the graph, by their names without the model's: "
        "tokenize, join, classify, generate ...",
    )
    ensemble: EnsembleSettings | None = Field(
        default=None, description="Settings of the ensemble itself."
    )
    tolerance: Tolerance = Field(
        default_factory=lambda: Tolerance(max_abs_error=1e-3, min_cosine=0.9999),
        description="How far the fp32 graph may be from the checkpoint.",
    )

    @field_validator("sequence_buckets")
    @classmethod
    def _ascending(cls, buckets: list[int] | None) -> list[int] | None:
        if buckets is not None and buckets != sorted(set(buckets)):
            raise ValueError("must ascend, each bucket once")
        return buckets

    @model_validator(mode="after")
    def _keys_are_the_tasks_own(self) -> "TaskSpec":
        for key in _OWN_KEYS:
            if getattr(self, key) is not None and key not in TASKS[self.task].keys:
                raise ValueError(
                    f"{key} is only for {', '.join(tasks_with(key))}, not for {self.task}"
                )
        return self

    @model_validator(mode="after")
    def _tokenizers_are_said_once(self) -> "TaskSpec":
        for stage in ("tokenize", "join"):
            said = self.stages.get(stage)
            if said and said.instance_group is not None and "tokenizers" in self.model_fields_set:
                raise ValueError(
                    f"tokenizers and stages.{stage}.instance_group say the same; keep one"
                )
        return self
