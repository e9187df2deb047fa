"""Mutants of tensors, reshapes, batch inputs and outputs, and labels."""

from random import Random

from tritonclient.grpc import model_config_pb2 as pb

from .mutant import Mutant, Operator, Section, base, dims, model, operated


def _any_io(rng: Random, config: pb.ModelConfig) -> pb.ModelInput | pb.ModelOutput:
    return rng.choice([*config.input, *config.output])


def _name(rng: Random, config: pb.ModelConfig) -> None:
    _any_io(rng, config).name = rng.choice(["", "Z", "X0", "with space", "ü"])


def _data_type(rng: Random, config: pb.ModelConfig) -> None:
    _any_io(rng, config).data_type = rng.choice(list(pb.DataType.values()))


def _dims(rng: Random, config: pb.ModelConfig) -> None:
    io = _any_io(rng, config)
    del io.dims[:]
    io.dims.extend(rng.choice([[], [1], [0], [-1], [-2], [3, -1], [2, 0], [1] * 9, [2**40]]))


def _format(rng: Random, config: pb.ModelConfig) -> None:
    model_input = rng.choice(config.input)
    model_input.format = rng.choice([0, 1, 2])
    if rng.random() < 0.6:
        del model_input.dims[:]
        model_input.dims.extend([3, 4, 4])


def _shape_tensor(rng: Random, config: pb.ModelConfig) -> None:
    _any_io(rng, config).is_shape_tensor = rng.random() < 0.8
    if rng.random() < 0.6:
        config.platform = "tensorrt_plan"


def _non_linear(rng: Random, config: pb.ModelConfig) -> None:
    io = _any_io(rng, config)
    io.is_non_linear_format_io = True
    if rng.random() < 0.7:
        config.platform = "tensorrt_plan"
    if rng.random() < 0.7:
        del io.dims[:]
        io.dims.extend([3, 4, 4])


def _optional(rng: Random, config: pb.ModelConfig) -> None:
    model_input = rng.choice(config.input)
    model_input.optional = True
    model_input.allow_ragged_batch = rng.random() < 0.5


def _no_ios(rng: Random, config: pb.ModelConfig) -> None:
    config.ClearField(rng.choice(["input", "output"]))
    if not config.input:
        config.input.add(name="X0", data_type=pb.TYPE_FP32, dims=[1])


_RESHAPES: list[tuple[list[int], list[int]]] = [
    ([1], []),
    ([1, 1], []),
    ([2], []),
    ([-1], []),
    ([4], [2, 2]),
    ([2, 3], [6]),
    ([2, 3], [3, 2, 1]),
    ([2, 3], [5]),
    ([2, 4, -1, 6], [8, -1, 1, 6]),
    ([2, 4, -1, 6], [8, -1, 5]),
    ([-1, 2], [2, -1]),
    ([-1, -1], [-1]),
    ([-1], [-1, 1]),
    ([-1], [1, -1, 1]),
    ([-1, 4], [-1, 2, 2]),
    ([-1], [4]),
    ([4], [-1]),
    ([4], [0]),
    ([4], [-4]),
    ([4], [4, -2]),
    ([1], [1]),
    ([1], [1, 1, 1]),
    ([8], [2, 2, 2]),
    ([2**32, 2**32], [1]),
    ([2**32, 2**32], [2**63 - 1]),
    ([2**62, 2], [2, 2**62]),
    ([2**62, 4], [1]),
    ([2**63 - 1, -1], [2**63 - 1, -1]),
    ([2**32, 2**32, -1], [-1]),
]


def _reshape(rng: Random) -> Mutant:
    config = base(rng)
    for io in rng.sample([*config.input, *config.output], rng.randint(1, 2)):
        before, after = rng.choice(_RESHAPES)
        del io.dims[:]
        io.dims.extend(before)
        io.reshape.shape.extend(after)
        if rng.random() < 0.3:
            # Any split of any size, right or wrong.
            del io.dims[:], io.reshape.shape[:]
            io.dims.extend(dims(rng))
            io.reshape.shape.extend(sorted(io.dims) if rng.random() < 0.5 else dims(rng))
        io.reshape.SetInParent()
    return model("reshape", config)


def _batch_io(rng: Random) -> Mutant:
    config = base(rng)
    config.input[0].allow_ragged_batch = rng.random() < 0.6
    for _ in range(rng.randint(0, 2)):
        batch_input = config.batch_input.add(
            kind=rng.choice(list(pb.BatchInput.Kind.values())),
            target_name=["B0"] if rng.random() < 0.9 else [],
            data_type=rng.choices(
                [pb.TYPE_INT32, pb.TYPE_FP32, pb.TYPE_INT64, pb.TYPE_INVALID], [6, 6, 1, 1]
            )[0],
        )
        batch_input.source_input.extend(_sources(rng, config))
    for _ in range(rng.randint(0, 1)):
        batch_output = config.batch_output.add()
        names = [output.name for output in config.output]
        batch_output.target_name.extend(rng.choices([names, names[:1] * 2, ["Q"]], [8, 1, 1])[0])
        batch_output.source_input.extend(_sources(rng, config))
    return model("batch_input, batch_output and ragged", config)


def _sources(rng: Random, config: pb.ModelConfig) -> list[str]:
    names = [model_input.name for model_input in config.input]
    return rng.choices([names[:1], names, [], ["Q"], names[:1] * 2], [12, 1, 1, 1, 1])[0]


_LABEL_FILES = ["labels.txt", "1/labels.txt", "./labels.txt", "gone.txt", "../labels.txt"]
_LABEL_FILES += ["1/../labels.txt", "folder", "/etc/hostname", "../../labels.txt", "labels.txt/"]
_LABEL_FILES += ["../step_fp32/config.pbtxt", "1/../../step_fp32/config.pbtxt"]


def _labels(rng: Random) -> Mutant:
    config = base(rng)
    for output in config.output:
        if rng.random() < 0.8:
            output.label_filename = rng.choices(
                _LABEL_FILES, [30, 9, 9, 6, 3, 1, 3, 3, 3, 3, 4, 3]
            )[0]
    content = rng.choice([b"", b"cat\ndog\n", b"\xff\xfe"])
    files = {"labels.txt": content, "1/labels.txt": content, "folder": None}
    return Mutant("labels", {**model("", config).files, **files})


_TENSOR_OPERATORS: list[Operator] = [_name, _data_type, _dims, _format, _shape_tensor, _non_linear]
_TENSOR_OPERATORS += [_optional, _no_ios, _optional, _format]

SECTIONS = [
    Section("tensors and formats", operated("tensors and formats", _TENSOR_OPERATORS), weight=2),
    Section("reshape", _reshape),
    Section("batch_input, batch_output and ragged", _batch_io),
    Section("labels", _labels),
]
