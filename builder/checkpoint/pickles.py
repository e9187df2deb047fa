"""Pickled weights, which can run code when they are loaded, are refused."""

from pathlib import Path

from builder.errors import CheckpointError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def refuse_pickles(source: str) -> None:
    """Refuse a local checkpoint without safetensors.

    Raises:
        CheckpointError: its weights are pickled, or it has none.
    """
    folder = Path(source)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{source} holds pickled weights ({pickles[0]}), which can run code when loaded; "
            "convert them to safetensors first"
        )
    raise CheckpointError(f"{source} has no *.safetensors file")
