"""Settings of a model that the builder did not write: what must fit its own tensors."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Final

from builder.errors import SpecError
from builder.render.model_config import ModelConfig, Tensor
from builder.render.model_files import Source, element_bytes, safe_name
from builder.spec.triton import SequenceBatching, TritonModel

_PAIRS: Final = {"int32_false_true": "INT32", "fp32_false_true": "FP32", "bool_false_true": "BOOL"}


def user_model(config: ModelConfig, settings: TritonModel, base: Path) -> ModelConfig:
    """A config with what only a model of the user's own may say: batchers, states, batch tensors.

    Args:
        config: The model.
        settings: What the spec says.
        base: Folder of the spec file.

    Raises:
        SpecError: a setting does not fit the model's tensors or its backend.
    """
    operations = settings.model_operations
    if operations is not None and config.backend != "onnxruntime":
        raise SpecError(
            f"{config.name}: model_operations are for ONNX models; this one runs on "
            f"{config.backend}"
        )
    _check_batch_io(config, settings)
    files = dict(config.files)
    sequence = settings.sequence_batching
    if sequence is not None:
        _check_made_inputs(config, sequence)
        sequence = _with_initial_states(config, sequence, base, files)
    return replace(
        config,
        dynamic_batching=settings.dynamic_batching,
        sequence_batching=sequence,
        decoupled=config.decoupled or settings.model_transaction_policy.decoupled,
        batch_input=tuple(settings.batch_input),
        batch_output=tuple(settings.batch_output),
        op_library_filename=tuple(operations.op_library_filename) if operations else (),
        runtime=settings.runtime or "",
        files=files,
    )


def _check_batch_io(config: ModelConfig, settings: TritonModel) -> None:
    """`ValidateBatchIO` of core."""
    inputs = [tensor.name for tensor in config.inputs]
    outputs = [tensor.name for tensor in config.outputs]
    cut: set[str] = set()
    for field in ("batch_input", "batch_output"):
        for entry in getattr(settings, field):
            for name in entry.source_input:
                if name not in inputs:
                    raise SpecError(
                        f"{config.name}: {field}: there is no input '{name}'; it has "
                        f"{', '.join(inputs)}"
                    )
    for output in settings.batch_output:
        for name in output.target_name:
            if name not in outputs or name in cut:
                why = "is named twice" if name in cut else f"is none of {', '.join(outputs)}"
                raise SpecError(f"{config.name}: batch_output: the output '{name}' {why}")
            cut.add(name)
    for tensor in config.inputs:
        if tensor.allow_ragged_batch and not config.max_batch_size:
            raise SpecError(
                f"{config.name}: allow_ragged_batch of input {tensor.name} needs a max_batch_size "
                "above 0"
            )


def _check_made_inputs(config: ModelConfig, sequence: SequenceBatching) -> None:
    """A control or a state is no input that a request has."""
    both = sequence.made_inputs & {tensor.name for tensor in config.inputs}
    if both:
        raise SpecError(
            f"{config.name}: sequence_batching makes the input '{min(both)}' itself; take it out "
            "of inputs"
        )


def _with_initial_states(
    config: ModelConfig, sequence: SequenceBatching, base: Path, files: dict[str, bytes]
) -> SequenceBatching:
    """Files of initial states, written where Triton looks for them."""
    states = []
    for place, state in enumerate(sequence.state):
        initial = []
        for each in state.initial_state:
            if each.data_file is None:
                initial.append(each)
                continue
            source = Source(f"{config.name}: initial_state '{each.name}'", base)
            data, dims = source.tensor(each.data_file, each.data_type)
            size = element_bytes(each.data_type)
            if size is not None and len(data) != size * math.prod(each.dims):
                raise source.fail(
                    f"{each.data_file} has {list(dims) if dims else f'{len(data)} bytes'}; the "
                    f"dims are {each.dims} of {each.data_type}"
                )
            name = safe_name(place, each.name)
            files[f"initial_state/{name}"] = data
            initial.append(each.model_copy(update={"data_file": name}))
        states.append(state.model_copy(update={"initial_state": initial}))
    return sequence.model_copy(update={"state": states})


def made_tensors(config: ModelConfig) -> dict[str, Tensor]:
    """Controls and states: a warmup request may have them."""
    sequence = config.sequence_batching
    if sequence is None:
        return {}
    made = {
        state.input_name: Tensor(state.input_name, state.data_type, tuple(state.dims))
        for state in sequence.state
    }
    for entry in sequence.control_input:
        control = entry.control[0]
        types = [name for key, name in _PAIRS.items() if getattr(control, key)]
        data_type = control.data_type or types[0]
        made[entry.name] = Tensor(entry.name, data_type, (1,))
    return made
