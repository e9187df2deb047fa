"""Which task a checkpoint is for, and what makes it."""

from importlib import import_module
from pathlib import Path

from builder.checkpoint.files import CheckpointFiles, open_checkpoint
from builder.errors import CheckpointError
from builder.spec.task import TaskSpec
from builder.spec.tasks import TASKS, task_of_architecture
from builder.tasks.task import Task, TaskFactory


def guess_task(files: CheckpointFiles) -> str:
    """The task that a checkpoint's own files name.

    Raises:
        CheckpointError: none that can be built.
    """
    if files.json("modules.json"):
        return "sentence-similarity"
    for name in files.architectures:
        task = task_of_architecture(name)
        if task is not None:
            return task
    raise CheckpointError(
        f"{files.source} ({', '.join(files.architectures) or 'no architecture named'}) is of no "
        f"task that can be built; known are {', '.join(sorted(TASKS))}"
    )


def task_of(spec: TaskSpec, base: Path) -> Task:
    """The task of a spec over its checkpoint; no weights are read.

    Args:
        spec: The spec.
        base: Folder that local paths are relative to.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or of another task.
        SpecError: the spec asks for more than the checkpoint takes.
    """
    files = open_checkpoint(spec.checkpoint, base)
    if not TASKS[spec.task].any_head:
        guessed = guess_task(files)
        if guessed != spec.task:
            raise CheckpointError(
                f"{files.source} is a checkpoint for {guessed}, not for {spec.task}; set task: "
                f"{guessed} in the spec"
            )
    return _factory(spec.task)(spec, files)


def _factory(task: str) -> TaskFactory:
    """The class of a task; its module is imported only when it is asked for."""
    module, name = TASKS[task].made_by.split(":")
    factory: TaskFactory = getattr(import_module(f"builder.tasks.{module}"), name)
    return factory
