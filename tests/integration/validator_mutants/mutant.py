"""A mutant: a small model, valid but for what its section's operators did to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

Files = dict[str, bytes | str | None]
"""Content by path; None is an empty folder, a `str` a link to what it says."""


@dataclass
class Mutant:
    """The files of one model."""

    section: str
    files: Files
    backend: str = "null"
    name: str = ""

    def write(self, repository: Path) -> None:
        (repository / self.name).mkdir()
        for path, content in self.files.items():
            target = repository / self.name / path
            if content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                target.symlink_to(content)
            else:
                target.write_bytes(content)


Operator = Callable[[Random, pb.ModelConfig], None]
Builder = Callable[[Random], Mutant]


@dataclass
class Section:
    """A section of the rule set: its name, and what makes a mutant of it."""

    name: str
    build: Builder
    weight: int = 1
    rate_limit: bool = False


def base(rng: Random, *, batching: bool | None = None) -> pb.ModelConfig:
    """A valid model of the null backend, which does nothing and loads in a millisecond."""
    config = pb.ModelConfig(backend="null")
    batched = rng.random() < 0.7 if batching is None else batching
    config.max_batch_size = rng.choice([1, 4, 8]) if batched else 0
    for name in ["X0", "X1"][: rng.randint(1, 2)]:
        config.input.add(name=name, data_type=rng.choice(TYPES), dims=dims(rng))
    for name in ["Y0", "Y1"][: rng.randint(1, 2)]:
        config.output.add(name=name, data_type=rng.choice(TYPES), dims=dims(rng))
    return config


TYPES = [pb.TYPE_FP32, pb.TYPE_INT64, pb.TYPE_UINT8, pb.TYPE_STRING, pb.TYPE_BOOL, pb.TYPE_FP16]


def dims(rng: Random, *, free: bool = True) -> list[int]:
    """Valid dims."""
    sizes = [1, 2, 3, 4, 8] + ([-1] if free else [])
    return [rng.choice(sizes) for _ in range(rng.randint(1, 3))]


def text(config: pb.ModelConfig) -> bytes:
    """The config as `config.pbtxt`."""
    return text_format.MessageToString(config).encode()


def model(section: str, config: pb.ModelConfig, **files: bytes | str | None) -> Mutant:
    """A mutant of one config, with version 1."""
    return Mutant(section, {"config.pbtxt": text(config), "1": None, **files})


def operated(section: str, operators: list[Operator], *, batching: bool | None = None) -> Builder:
    """A builder that applies one to three operators to a valid model."""

    def build(rng: Random) -> Mutant:
        config = base(rng, batching=batching)
        for operator in rng.sample(operators, min(len(operators), rng.randint(1, 3))):
            operator(rng, config)
        return model(section, config)

    return build
