"""Mutants of batching, queues, sequences, states and the response cache."""

from random import Random

from tritonclient.grpc import model_config_pb2 as pb

from .mutant import Files, Mutant, Section, base, dims, model, operated

_Control = pb.ModelSequenceBatching.Control
_KINDS = list(_Control.Kind.values())


def _max_batch_size(rng: Random, config: pb.ModelConfig) -> None:
    config.max_batch_size = rng.choice([-1, 0, 0, 1, 2, 4, 8, 8, 2**31 - 1])


def _preferred(rng: Random, config: pb.ModelConfig) -> None:
    pool = [
        1,
        1,
        2,
        4,
        config.max_batch_size or 1,
        min(config.max_batch_size, 2**31 - 2) + 1,
        0,
        -1,
    ]
    config.dynamic_batching.preferred_batch_size.extend(
        rng.choice(pool) for _ in range(rng.randint(0, 2))
    )


def _delay(rng: Random, config: pb.ModelConfig) -> None:
    config.dynamic_batching.max_queue_delay_microseconds = rng.choice([0, 1, 100, 2**63])


def _empty_batching(rng: Random, config: pb.ModelConfig) -> None:
    config.dynamic_batching.SetInParent()


def _priorities(rng: Random) -> Mutant:
    config = base(rng)
    batching = config.dynamic_batching
    batching.priority_levels = rng.choice([0, 1, 2, 3, 5])
    batching.default_priority_level = rng.choice([0, 1, 1, 1, 2, 3, 6])
    for level in rng.sample([0, 1, 2, 3, 7], rng.randint(0, 2)):
        _policy(rng, batching.priority_queue_policy[level])
    if rng.random() < 0.5:
        _policy(rng, batching.default_queue_policy)
    return model("priority levels and queue policies", config)


def _policy(rng: Random, policy: pb.ModelQueuePolicy) -> None:
    policy.timeout_action = rng.choice([0, 1])
    policy.default_timeout_microseconds = rng.choice([0, 0, 1000])
    policy.allow_timeout_override = rng.random() < 0.3
    policy.max_queue_size = rng.choice([0, 1, 100])


def _ordering(rng: Random) -> Mutant:
    config = base(rng)
    batching = config.dynamic_batching
    batching.preserve_ordering = rng.random() < 0.85
    batching.priority_levels = rng.choice([0, 0, 1, 1, 2])
    batching.default_priority_level = 1 if batching.priority_levels else 0
    if rng.random() < 0.7:
        _policy(rng, batching.default_queue_policy)
    if rng.random() < 0.5:
        _policy(rng, batching.priority_queue_policy[1])
    return model("preserve_ordering", config)


def _sequence(rng: Random) -> Mutant:
    config = base(rng)
    sequence = config.sequence_batching
    sequence.max_sequence_idle_microseconds = rng.choice([0, 1, 10**6])
    strategy = rng.choice(["", "direct", "oldest"])
    if strategy == "direct":
        sequence.direct.minimum_slot_utilization = rng.choice([0, 0.5, 1, 1, 1.5, -0.1])
        sequence.direct.max_queue_delay_microseconds = rng.choice([0, 10])
    elif strategy == "oldest":
        sequence.oldest.max_candidate_sequences = rng.choice([0, 1, 4, 16])
        sequence.oldest.preserve_ordering = rng.random() < 0.5
        pool = [1, config.max_batch_size or 1, 0, -1, config.max_batch_size + 1]
        sizes = rng.choices(pool, weights=[4, 4, 1, 1, 1], k=rng.randint(0, 2))
        sequence.oldest.preferred_batch_size.extend(sizes)
    sequence.iterative_sequence = rng.random() < 0.2
    kinds = rng.sample(_KINDS, rng.randint(0, 4))
    if kinds and rng.random() < 0.1:
        kinds.append(kinds[0])
    for index, kind in enumerate(kinds):
        name = f"C{index}" if rng.random() < 0.93 else rng.choice(["", "C0"])
        control_input = sequence.control_input.add(name=name)
        _control(rng, control_input.control.add(kind=kind))
    return model("sequence batching controls and strategies", config)


def _control(rng: Random, control: "pb.ModelSequenceBatching.Control") -> None:
    if control.kind == _Control.CONTROL_SEQUENCE_CORRID:
        good = [pb.TYPE_UINT64, pb.TYPE_INT64, pb.TYPE_UINT32, pb.TYPE_INT32, pb.TYPE_STRING]
        bad = [pb.TYPE_FP32, pb.TYPE_INVALID, pb.TYPE_BOOL, pb.TYPE_UINT8]
        control.data_type = rng.choice(good if rng.random() < 0.85 else bad)
        if rng.random() < 0.07:
            control.int32_false_true.extend([0, 1])
        return
    count = 2 if rng.random() < 0.93 else rng.choice([1, 3])
    field = rng.choice(["int32_false_true", "fp32_false_true", "bool_false_true"])
    if rng.random() < 0.95:
        getattr(control, field).extend([0, 1, 1][:count])
    if rng.random() < 0.05:
        control.fp32_false_true.extend([0, 1])


def _states(rng: Random) -> Mutant:
    config = base(rng)
    config.sequence_batching.SetInParent()
    files: Files = {}
    for index in range(rng.randint(1, 2)):
        # Few mistakes: most of them kill the server, and a new one takes seconds.
        state = config.sequence_batching.state.add(
            input_name=f"S{index}" if rng.random() < 0.97 else "S0",
            output_name=f"T{index}",
            data_type=rng.choice([pb.TYPE_FP32, pb.TYPE_INT32, pb.TYPE_STRING]),
            dims=dims(rng),
        )
        for _ in range(rng.choices([0, 1, 2], [10, 40, 1])[0]):
            _initial(rng, state, files)
    return Mutant("sequence states", {**model("", config).files, **files})


def _initial(rng: Random, state: "pb.ModelSequenceBatching.State", files: Files) -> None:
    initial = state.initial_state.add(name="start" if rng.random() < 0.98 else "")
    initial.data_type = state.data_type if rng.random() < 0.98 else pb.TYPE_BOOL
    initial.dims.extend(2 if dim == -1 else dim for dim in state.dims)
    if rng.random() < 0.03:
        initial.dims[0] = rng.choice([-1, 5])
    if rng.random() < 0.02:
        initial.dims.append(1)
    choice = rng.random()
    if choice < 0.6:
        initial.zero_data = rng.random() < 0.9
    elif choice < 0.98:
        initial.data_file = "data"
        if rng.random() < 0.95:
            files["initial_state/data"] = bytes(rng.choice([0, 4, *[4096] * 18]))


def _cache(rng: Random) -> Mutant:
    config = base(rng)
    config.response_cache.enable = rng.random() < 0.8
    config.model_transaction_policy.decoupled = rng.random() < 0.4
    kind = rng.choice(["", "dynamic", "sequence"])
    if kind == "dynamic":
        config.dynamic_batching.SetInParent()
    elif kind == "sequence":
        config.sequence_batching.SetInParent()
    return model("response cache and decoupled", config)


SECTIONS = [
    Section(
        "batching and preferred sizes",
        operated(
            "batching and preferred sizes", [_max_batch_size, _preferred, _delay, _empty_batching]
        ),
    ),
    Section("priority levels and queue policies", _priorities),
    Section("preserve_ordering", _ordering),
    Section("sequence batching controls and strategies", _sequence, weight=2),
    Section("sequence states", _states),
    Section("response cache and decoupled", _cache),
]
