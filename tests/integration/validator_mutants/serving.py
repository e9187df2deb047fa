"""Mutants of backends, instances, resources, warmup, metrics, optimization and parameters."""

from random import Random

from tritonclient.grpc import model_config_pb2 as pb

from .mutant import Files, Mutant, Section, base, model

_PLATFORMS = ["", "ensemble", "onnxruntime_onnx", "tensorrt_plan", "pytorch_libtorch"]
_PLATFORMS += ["tensorflow_savedmodel", "tensorflow_graphdef", "python", "nonsense"]
_BACKENDS = ["", "null", "null", "null", "tensorrt", "tensorflow", "pytorch", "nonsense"]
_FILE_NAMES = ["", "", "", "model.plan", "model.xml", "model.graphdef", "whatever.bin"]


def _backend(rng: Random) -> Mutant:
    config = base(rng)
    config.backend = rng.choice(_BACKENDS)
    config.platform = rng.choice(["", "", *_PLATFORMS])
    config.default_model_filename = rng.choice(_FILE_NAMES)
    config.runtime = rng.choices(
        ["", "libtriton_null.so", "model.py", "../null/libtriton_null.so", "gone.so"],
        [12, 3, 1, 1, 1],
    )[0]
    if rng.random() < 0.05:
        config.ensemble_scheduling.step.add(model_name="other")
    if rng.random() < 0.05:
        config.model_repository_agents.agents.add(name="nonsense")
    files: Files = {}
    if rng.random() < 0.3:
        files[f"1/{rng.choice(['model.plan', 'model.xml', 'model.bin', 'model.pt'])}"] = b"junk"
    return Mutant("platform and backend", {**model("", config).files, **files})


_Group = pb.ModelInstanceGroup


def _instances(rng: Random) -> Mutant:
    config = base(rng)
    if rng.random() < 0.2:
        config.platform = "tensorrt_plan"
    if rng.random() < 0.15:
        config.sequence_batching.SetInParent()
    for index in range(rng.randint(1, 2)):
        group = config.instance_group.add(
            kind=rng.choices(list(_Group.Kind.values()), [4, 1, 4, 3])[0],
            count=rng.choice([0, 1, 1, 2, -1]),
            passive=rng.random() < 0.15,
            host_policy=rng.choice(["", "", "cpu", "nonsense"]),
        )
        if rng.random() < 0.3:
            group.name = rng.choice(["g", f"g{index}", "with space"])
        if rng.random() < 0.12:
            group.gpus.extend(rng.choice([[0], [0, 1], [-1]]))
        if rng.random() < 0.2:
            group.profile.extend([rng.choice(["0", "1", "-1", "a", "", " 2", "1x"])])
        if rng.random() < 0.2:
            group.secondary_devices.add(device_id=rng.choice([0, 3]))
    return model("instance groups", config)


def _rate_limiter(rng: Random) -> Mutant:
    config = base(rng)
    unique = f"R{rng.getrandbits(60)}"
    for _ in range(rng.randint(1, 2)):
        group = config.instance_group.add(
            kind=rng.choice([_Group.KIND_CPU, _Group.KIND_MODEL, _Group.KIND_AUTO]),
            count=rng.choice([1, 2]),
            passive=rng.random() < 0.1,
        )
        group.rate_limiter.priority = rng.choice([0, 1, 7])
        for _ in range(rng.randint(0, 3)):
            resource = group.rate_limiter.resources.add(
                name=unique + rng.choice(["a", "b", "c"]), count=rng.choice([0, 1, 5])
            )
            setattr(resource, "global", rng.random() < 0.25)
    return model("rate limiter", config)


def _warmup(rng: Random) -> Mutant:
    config = base(rng)
    config.instance_group.add(kind=_Group.KIND_CPU, passive=rng.random() < 0.05)
    for model_input in config.input:
        model_input.optional = rng.random() < 0.15
    if rng.random() < 0.2:
        io = config.input[0]
        del io.dims[:]
        io.dims.extend([4])
        io.reshape.shape.extend([2, 2])
    files: Files = {}
    for number in range(rng.randint(1, 2)):
        sample = config.model_warmup.add(
            name=f"w{number}", batch_size=rng.choice([0, 1, 1, 1, 1, 2]), count=rng.choice([0, 1])
        )
        for model_input in config.input:
            if rng.random() < 0.96:
                _warmup_input(rng, sample.inputs[model_input.name], model_input, files)
        if rng.random() < 0.08:
            _warmup_input(rng, sample.inputs["OTHER"], config.input[0], files)
    return Mutant("warmup", {**model("", config).files, **files})


def _warmup_input(
    rng: Random,
    value: "pb.ModelWarmup.Input",
    model_input: pb.ModelInput,
    files: Files,
) -> None:
    value.data_type = model_input.data_type if rng.random() < 0.95 else pb.TYPE_INT16
    value.dims.extend(2 if dim == -1 else dim for dim in model_input.dims)
    mistake = rng.random()
    if mistake < 0.04:
        value.dims[0] = -1
    elif mistake < 0.08:
        value.dims.append(1)
    elif mistake < 0.12:
        value.dims[0] += 3
    choice = rng.random()
    if choice < 0.5:
        value.zero_data = True
    elif choice < 0.75:
        value.random_data = True
    elif choice < 0.96:
        value.input_data_file = rng.choice(["data", "data", "data", "gone"])
        files["warmup/data"] = bytes(rng.choice([0, 4, 4096, 4096, 4096]))


def _metrics(rng: Random) -> Mutant:
    config = base(rng)
    if rng.random() < 0.5:
        config.metric_tags[rng.choice(["team", "a_b", "model_x"])] = rng.choice(["", "v", "ü"])
    if rng.random() < 0.5:
        control = config.model_metrics.metric_control.add()
        if rng.random() < 0.7:
            control.metric_identifier.family = rng.choice(["", "nv_family"])
        if rng.random() < 0.7:
            control.histogram_options.buckets.extend(rng.choice([[], [1, 2]]))
    return model("metrics", config)


def _optimization(rng: Random) -> Mutant:
    config = base(rng)
    optimization = config.optimization
    optimization.graph.level = rng.choice([-1, 0, 1, 9])
    optimization.priority = rng.choice([0, 1, 2])
    optimization.eager_batching = rng.random() < 0.5
    optimization.gather_kernel_buffer_threshold = rng.choice([0, 7])
    if rng.random() < 0.5:
        optimization.input_pinned_memory.enable = rng.random() < 0.5
    if rng.random() < 0.3:
        optimization.cuda.graphs = True
        spec = optimization.cuda.graph_spec.add(batch_size=rng.choice([-1, 0, 4]))
        spec.input["X0"].dim.extend([1, 2])
    if rng.random() < 0.5:
        accelerators = optimization.execution_accelerators
        accelerator = rng.choice(
            [accelerators.gpu_execution_accelerator, accelerators.cpu_execution_accelerator]
        ).add(name=rng.choice(["tensorrt", "openvino", "nonsense", ""]))
        accelerator.parameters["precision_mode"] = "FP16"
    if rng.random() < 0.35:
        _make_ensemble(config)
        if rng.random() < 0.5:
            config.ClearField("optimization")
        if rng.random() < 0.2:
            config.instance_group.add()
        if rng.random() < 0.2:
            config.model_warmup.add(name="w")
    return model("optimization and accelerators", config)


def _make_ensemble(config: pb.ModelConfig) -> None:
    """Turn a config into an ensemble of one step, the fixed model `step_fp32`."""
    config.ClearField("backend")
    config.platform = "ensemble"
    config.max_batch_size = 4
    del config.input[:], config.output[:]
    config.input.add(name="IN", data_type=pb.TYPE_FP32, dims=[4])
    config.output.add(name="OUT", data_type=pb.TYPE_FP32, dims=[4])
    step = config.ensemble_scheduling.step.add(model_name="step_fp32", model_version=-1)
    step.input_map["X"] = "IN"
    step.output_map["Y"] = "OUT"


def _parameters(rng: Random) -> Mutant:
    config = base(rng)
    keys = ["FORCE_CPU_ONLY_INPUT_TENSORS", "intra_op_thread_count", "anything", ""]
    for key in rng.sample(keys, rng.randint(0, 3)):
        config.parameters[key].string_value = rng.choice(["", "yes", "1", "ü"])
    if rng.random() < 0.4:
        config.sequence_batching.SetInParent()
    if rng.random() < 0.3 and config.HasField("sequence_batching"):
        config.parameters["TRITON_BATCH_STRATEGY_PATH"].string_value = "/nowhere.so"
    if rng.random() < 0.2:
        config.cc_model_filenames[rng.choice(["8.6", "nonsense"])] = "model.bin"
    if rng.random() < 0.2:
        config.model_operations.op_library_filename.append("gone.so")
    return model("parameters", config)


SECTIONS = [
    Section("platform and backend", _backend, weight=2),
    Section("instance groups", _instances, weight=2),
    Section("rate limiter", _rate_limiter, rate_limit=True),
    Section("warmup", _warmup, weight=2),
    Section("metrics", _metrics),
    Section("optimization and accelerators", _optimization),
    Section("parameters", _parameters),
]
