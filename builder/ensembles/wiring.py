"""Types, dims and batching of an ensemble's tensors, inferred from its steps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from builder.errors import SpecError
from builder.render.inputs import answered
from builder.render.model_config import EnsembleStep as Step
from builder.render.model_config import ModelConfig, Tensor
from builder.spec.ensemble import Ensemble, EnsembleStep


@dataclass(frozen=True)
class Known:
    """What an ensemble needs to know of a model.

    Attributes:
        max_batch_size: 0: its tensors have no batch dim besides their dims.
        inputs: By name, without the batch dim.
        outputs: The same.
    """

    max_batch_size: int
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    @classmethod
    def of(cls, config: ModelConfig) -> "Known":
        """What a config says."""
        return cls(
            config.max_batch_size,
            {tensor.name: tensor for tensor in config.inputs},
            {tensor.name: tensor for tensor in config.outputs},
        )


@dataclass(frozen=True)
class _End:
    """Where a tensor of the ensemble meets a step: its type there, dims with the batch dim."""

    step: EnsembleStep
    tensor: Tensor
    dims: tuple[int, ...]

    def __str__(self) -> str:
        dims = ", ".join(map(str, self.dims))
        return f"{self.tensor.data_type} [{dims}] in {self.step.model} ({self.tensor.name})"


class Wiring:
    """The steps of one ensemble and the models that they name."""

    def __init__(self, spec: Ensemble, models: Mapping[str, Known]) -> None:
        """Check the steps.

        Args:
            spec: The ensemble.
            models: Every model that a step names.

        Raises:
            SpecError: a tensor is missing, made twice, or of another type than its taker wants;
                the steps run in a circle.
        """
        self.spec = spec
        self.models = models
        self._made: dict[str, _End] = {}
        self._taken: dict[str, list[_End]] = {}
        for step in spec.steps:
            self._read(step)
        self.steps = self._ordered()
        for name in self._taken:
            self._checked(name)

    def _refuse(self, sentence: str) -> SpecError:
        return SpecError(f"ensemble {self.spec.name}: {sentence}")

    def _read(self, step: EnsembleStep) -> None:
        model = self.models[step.model]
        for side, names, known in (
            ("input", step.inputs, model.inputs),
            ("output", step.outputs, model.outputs),
        ):
            for name in names:
                if name not in known:
                    raise self._refuse(
                        f"{step.model} has no {side} '{name}'; it has "
                        f"{', '.join(known) or 'none that its config declares'}"
                    )
        for tensor in model.inputs.values():
            if tensor.name not in step.inputs and not tensor.optional:
                raise self._refuse(
                    f"nothing is given to input '{tensor.name}' of {step.model}; add it to the "
                    "step's in:"
                )
        for name, own in step.inputs.items():
            self._taken.setdefault(own, []).append(self._end(step, model.inputs[name], model))
        for name, own in step.outputs.items():
            other = self._made.get(own)
            if other is not None:
                raise self._refuse(
                    f"{other.step.model} and {step.model} both make '{own}'; give one another name"
                )
            self._made[own] = self._end(step, model.outputs[name], model)

    @staticmethod
    def _end(step: EnsembleStep, tensor: Tensor, model: Known) -> _End:
        dims = (-1, *tensor.dims) if model.max_batch_size else tensor.dims
        return _End(step, tensor, dims)

    def _ordered(self) -> list[EnsembleStep]:
        """The steps, each behind those whose tensors it takes."""
        waiting = list(self.spec.steps)
        ready = {name for name in self._taken if name not in self._made}
        ordered: list[EnsembleStep] = []
        while waiting:
            able = [step for step in waiting if ready.issuperset(step.inputs.values())]
            if not able:
                circle = " -> ".join([*(step.model for step in waiting), waiting[0].model])
                raise self._refuse(f"the steps wait for each other in a circle: {circle}")
            for step in able:
                waiting.remove(step)
                ordered.append(step)
                ready.update(step.outputs.values())
        return ordered

    def _checked(self, name: str) -> _End:
        """One end of a tensor, with the dims that all of them agree on."""
        ends = [*([self._made[name]] if name in self._made else []), *self._taken[name]]
        first = ends[0]
        dims = first.dims
        for end in ends[1:]:
            agreed = _agreed(dims, end.dims)
            if end.tensor.data_type != first.tensor.data_type or agreed is None:
                raise self._refuse(f"'{name}' is {first}, but {end}; these do not fit")
            dims = agreed
        return replace(first, dims=dims)

    @property
    def max_batch_size(self) -> int:
        """The least of the steps; 0 where one of them does no batching."""
        return min(self.models[step.model].max_batch_size for step in self.spec.steps)

    def _own(self, name: str, end: _End, *, optional: bool = False) -> Tensor:
        dims = end.dims[1:] if self.max_batch_size else end.dims
        return Tensor(name, end.tensor.data_type, dims, optional)

    def inputs(self) -> Iterator[Tensor]:
        """What a request brings: what is taken and not made."""
        for name, ends in self._taken.items():
            if name not in self._made:
                optional = all(end.tensor.optional for end in ends)
                yield self._own(name, self._checked(name), optional=optional)

    def outputs(self) -> Iterator[Tensor]:
        """What the answer has.

        Raises:
            SpecError: an output is asked for that no step makes, or nothing is left over.
        """
        wanted = self.spec.outputs
        if wanted is None:
            wanted = [name for name in self._made if name not in self._taken]
            if not wanted:
                raise self._refuse("every tensor is taken by a step; name its outputs:")
        for name in wanted:
            if name not in self._made:
                raise self._refuse(
                    f"outputs: no step makes '{name}'; they make {', '.join(self._made)}"
                )
            end = self._checked(name) if name in self._taken else self._made[name]
            yield self._own(name, end)

    def config(self) -> ModelConfig:
        """The ensemble's model config."""
        return ModelConfig(
            backend="ensemble",
            name=self.spec.name,
            max_batch_size=self.max_batch_size,
            inputs=answered(tuple(self.inputs())),
            outputs=tuple(self.outputs()),
            steps=tuple(
                Step(step.model, dict(step.inputs), dict(step.outputs)) for step in self.steps
            ),
        )


def _agreed(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...] | None:
    """Dims that both are, -1 standing for any; None where there are none."""
    if len(first) != len(second):
        return None
    if any(-1 not in pair and pair[0] != pair[1] for pair in zip(first, second, strict=True)):
        return None
    return tuple(max(pair) for pair in zip(first, second, strict=True))
