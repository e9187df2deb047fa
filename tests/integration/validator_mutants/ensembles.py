"""Mutants of ensembles over fixed steps, and of the steps' models."""

from random import Random

from tritonclient.grpc import model_config_pb2 as pb

from .mutant import Files, Mutant, Section, model, text

_F = pb.TYPE_FP32


def _step(
    name: str,
    inputs: dict[str, tuple[int, list[int]]],
    outputs: dict[str, tuple[int, list[int]]],
    *,
    batch: int = 8,
    decoupled: bool = False,
    optional: tuple[str, ...] = (),
    versions: tuple[str, ...] = ("1",),
    **policy: int,
) -> Mutant:
    config = pb.ModelConfig(backend="null", max_batch_size=batch)
    for key, (data_type, dims) in inputs.items():
        config.input.add(name=key, data_type=data_type, dims=dims, optional=key in optional)
    for key, (data_type, dims) in outputs.items():
        config.output.add(name=key, data_type=data_type, dims=dims)
    config.model_transaction_policy.decoupled = decoupled
    if policy:
        config.version_policy.latest.num_versions = policy["latest"]
    files: Files = dict.fromkeys(versions)
    return Mutant("", {"config.pbtxt": text(config), **files}, name=name)


def _nested(name: str, of: str, *, output: str = "Y") -> Mutant:
    """An ensemble of one step, itself to be a step."""
    config = pb.ModelConfig(platform="ensemble", max_batch_size=8)
    config.input.add(name="X", data_type=_F, dims=[4])
    config.output.add(name="Y", data_type=_F, dims=[4])
    step = config.ensemble_scheduling.step.add(model_name=of, model_version=-1)
    step.input_map["X"], step.output_map[output] = "X", "Y"
    return Mutant("", {"config.pbtxt": text(config), "1": None}, name=name)


STEPS = [
    _step("step_fp32", {"X": (_F, [4])}, {"Y": (_F, [4])}),
    _step("step_free", {"X": (_F, [-1])}, {"Y": (_F, [-1])}),
    _step("step_small", {"X": (_F, [4])}, {"Y": (_F, [4])}, batch=2),
    _step("step_nobatch", {"X": (_F, [-1, 4])}, {"Y": (_F, [-1, 4])}, batch=0),
    _step("step_flat", {"X": (_F, [4])}, {"Y": (_F, [4])}, batch=0),
    _step("step_int", {"X": (pb.TYPE_INT32, [4])}, {"Y": (pb.TYPE_INT32, [4])}),
    _step("step_wide", {"X": (_F, [5])}, {"Y": (_F, [5])}),
    _step("step_join", {"A": (_F, [4]), "B": (_F, [4])}, {"Y": (_F, [4]), "Z": (_F, [4])}),
    _step("step_maybe", {"X": (_F, [4]), "O": (_F, [4])}, {"Y": (_F, [4])}, optional=("O",)),
    _step("step_stream", {"X": (_F, [4])}, {"Y": (_F, [4]), "Z": (_F, [4])}, decoupled=True),
    _step("step_versions", {"X": (_F, [4])}, {"Y": (_F, [4])}, versions=("1", "2", "3"), latest=2),
    _step("step_zero", {"X": (_F, [4])}, {"Y": (_F, [4])}, versions=("0",)),
    _nested("step_nested", "step_fp32"),
    _nested("step_nested_stream", "step_stream"),
    _nested("step_nested_wrong", "step_fp32", output="WRONG"),
    _nested("step_ring_a", "step_ring_b"),
    _nested("step_ring_b", "step_ring_a"),
    _step("step_broken", {"X": (_F, [0])}, {"Y": (_F, [4])}),
]
"""The fixed models that the ensembles are made of."""
_ONE_IN = ["step_fp32", "step_fp32", "step_fp32", "step_free", "step_versions", "step_stream"]


def _ensemble(rng: Random, batch: int = 4) -> pb.ModelConfig:
    """A valid ensemble: a chain, a diamond, or a chain of streams."""
    config = pb.ModelConfig(platform="ensemble", max_batch_size=batch)
    config.input.add(name="IN", data_type=_F, dims=[4])
    config.output.add(name="OUT", data_type=_F, dims=[4])
    steps = config.ensemble_scheduling.step
    if rng.random() < 0.5:
        names = [rng.choice(_ONE_IN) for _ in range(rng.randint(1, 3))]
        tensors = ["IN", *(f"t{i}" for i in range(len(names) - 1)), "OUT"]
        for name, before, after in zip(names, tensors, tensors[1:], strict=False):
            step = steps.add(model_name=name, model_version=-1)
            step.input_map["X"] = before
            step.output_map["Y"] = after
        return config
    left = steps.add(model_name="step_fp32", model_version=-1)
    left.input_map["X"], left.output_map["Y"] = "IN", "l"
    right = steps.add(model_name=rng.choice(["step_fp32", "step_free"]), model_version=-1)
    right.input_map["X"], right.output_map["Y"] = "IN", "r"
    join = steps.add(model_name="step_join", model_version=-1)
    join.input_map["A"], join.input_map["B"] = "l", "r"
    join.output_map["Y"] = "OUT"
    if rng.random() < 0.4:
        join.output_map["Z"] = "OUT2"
        config.output.add(name="OUT2", data_type=_F, dims=[4])
    if rng.random() < 0.3:
        rng.shuffle(list(steps))
    return config


def _rewire(rng: Random, config: pb.ModelConfig) -> None:
    step = rng.choice(config.ensemble_scheduling.step)
    mapped = rng.choice([step.input_map, step.output_map])
    names = ["IN", "OUT", "l", "r", "t0", "t1", "nowhere", ""]
    for key in list(mapped)[:1]:
        mapped[key] = rng.choice(names)


def _extra_output(rng: Random, config: pb.ModelConfig) -> None:
    step = rng.choice(config.ensemble_scheduling.step)
    step.output_map["Z"] = rng.choice(["unused", "OUT", "IN", "l"])


def _extra_io(rng: Random, config: pb.ModelConfig) -> None:
    name = rng.choice(["EXTRA", "l", "t0", "OUT", "IN"])
    rng.choice([config.input, config.output]).add(name=name, data_type=_F, dims=[4])


def _drop(rng: Random, config: pb.ModelConfig) -> None:
    step = rng.choice(config.ensemble_scheduling.step)
    step.ClearField(rng.choice(["model_name", "input_map", "output_map"]))


def _drop_step(rng: Random, config: pb.ModelConfig) -> None:
    del config.ensemble_scheduling.step[rng.randrange(len(config.ensemble_scheduling.step))]


def _drop_io(rng: Random, config: pb.ModelConfig) -> None:
    config.ClearField(rng.choice(["input", "output"]))


def _circle(rng: Random, config: pb.ModelConfig) -> None:
    first = config.ensemble_scheduling.step.add(model_name="step_join", model_version=-1)
    first.input_map["A"], first.input_map["B"] = "IN", rng.choice(["c", "IN"])
    first.output_map["Y"] = "c0"
    second = config.ensemble_scheduling.step.add(model_name="step_fp32", model_version=-1)
    second.input_map["X"], second.output_map["Y"] = "c0", "c"
    if rng.random() < 0.5:
        config.output.add(name="c", data_type=_F, dims=[4])


def _nothing(rng: Random, config: pb.ModelConfig) -> None:
    """A valid ensemble is part of the sample."""


_GRAPH = [_rewire, _extra_output, _extra_io, _drop, _drop_step, _drop_io, _circle]


def _graph(rng: Random) -> Mutant:
    config = _ensemble(rng)
    for operator in rng.choices(_GRAPH, k=rng.choice([0, 0, 1, 1, 1, 2])):
        if config.ensemble_scheduling.step:
            operator(rng, config)
    return model("ensemble graph", config)


def _swap_model(rng: Random, config: pb.ModelConfig) -> None:
    step = rng.choice(config.ensemble_scheduling.step)
    if "X" in step.input_map:
        step.model_name = rng.choice(
            [
                "step_small",
                "step_nobatch",
                "step_flat",
                "step_int",
                "step_wide",
                "step_maybe",
                "step_stream",
                "step_broken",
                "step_nested",
                "step_nested_stream",
                "step_nested_wrong",
                "nowhere",
                "@",
                "step_free",
                "step_versions",
            ]
        )


def _version(rng: Random, config: pb.ModelConfig) -> None:
    step = rng.choice(config.ensemble_scheduling.step)
    if step.model_name in ("step_fp32", "step_free") and rng.random() < 0.6:
        step.model_name = rng.choice(["step_versions", "step_zero"])
    step.model_version = rng.choice([-1, 0, 1, 2, 3, 4])


def _own_type(rng: Random, config: pb.ModelConfig) -> None:
    io = rng.choice([*config.input, *config.output])
    io.data_type = rng.choice([_F, pb.TYPE_INT32, pb.TYPE_FP64])


def _own_dims(rng: Random, config: pb.ModelConfig) -> None:
    io = rng.choice([*config.input, *config.output])
    del io.dims[:]
    io.dims.extend(rng.choice([[4], [-1], [5], [4, 1], [-1, 4], [2, 2], [0]]))
    if rng.random() < 0.4:
        io.reshape.shape.extend(rng.choice([[4], [-1], [2, 2]]))


def _own_batch(rng: Random, config: pb.ModelConfig) -> None:
    config.max_batch_size = rng.choice([0, 1, 2, 8, 9])
    if config.max_batch_size == 0 and rng.random() < 0.6:
        for io in (*config.input, *config.output):
            del io.dims[:]
            io.dims.extend([-1, 4])


def _wrong_key(rng: Random, config: pb.ModelConfig) -> None:
    step = rng.choice(config.ensemble_scheduling.step)
    mapped = rng.choice([step.input_map, step.output_map])
    for key in list(mapped)[:1]:
        value = mapped[key]
        del mapped[key]
        mapped["WRONG"] = value


def _map_optional(rng: Random, config: pb.ModelConfig) -> None:
    for step in config.ensemble_scheduling.step:
        if step.model_name == "step_maybe" and rng.random() < 0.7:
            step.input_map["O"] = rng.choice(["IN", "OPTIONAL"])
            if step.input_map["O"] == "OPTIONAL":
                config.input.add(name="OPTIONAL", data_type=_F, dims=[4], optional=True)


def _branch(rng: Random, config: pb.ModelConfig) -> None:
    """Join a stream with another tensor: with itself, with what came before, or a second one."""
    steps = config.ensemble_scheduling.step
    del steps[:], config.output[:]
    config.output.add(name="OUT", data_type=_F, dims=[4])
    stream = steps.add(model_name="step_stream", model_version=-1)
    stream.input_map["X"], stream.output_map["Y"] = "IN", "s"
    kind = rng.choice(["siblings", "before", "two", "nested", "after"])
    other = "s2"
    if kind == "siblings":
        stream.output_map["Z"] = other
    elif kind == "before":
        other = "IN"
    elif kind == "two":
        second = steps.add(model_name="step_stream", model_version=-1)
        second.input_map["X"], second.output_map["Y"] = "IN", other
        second.model_name = rng.choice(["step_stream", "step_nested_stream"])
    elif kind == "nested":
        second = steps.add(model_name="step_stream", model_version=-1)
        second.input_map["X"], second.output_map["Y"] = "s", other
    else:
        second = steps.add(model_name="step_fp32", model_version=-1)
        second.input_map["X"], second.output_map["Y"] = "s", other
    if rng.random() < 0.75:
        join = steps.add(model_name="step_join", model_version=-1)
        join.input_map["A"], join.input_map["B"] = "s", other
        join.output_map["Y"] = "OUT"
    else:
        del config.output[:]
        config.output.add(name="s", data_type=_F, dims=[4])
        if other != "IN":
            config.output.add(name=other, data_type=_F, dims=[4])


_MODELS = [_swap_model, _version, _own_type, _own_dims, _own_batch, _wrong_key, _branch, _nothing]


def _models(rng: Random) -> Mutant:
    config = _ensemble(rng)
    operators = [rng.choice(_MODELS)]
    if rng.random() < 0.3:
        operators.append(rng.choice(_MODELS[:-2]))
    for operator in operators:
        operator(rng, config)
    _map_optional(rng, config)
    if rng.random() < 0.05:
        config.ensemble_scheduling.step[0].model_name = "@"
    return model("ensemble models", config)


SECTIONS = [
    Section("ensemble graph", _graph, weight=2),
    Section("ensemble models", _models, weight=3),
]
