"""Pickled weights, which can run code when they are loaded, are refused."""

import shlex
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
            f"convert them to safetensors first: {_conversion(folder, pickles)}"
        )
    raise CheckpointError(f"{source} has no *.safetensors file")


def _conversion(folder: Path, pickles: list[str]) -> str:
    """A command that converts weights; it reads tensors only and runs no code of theirs."""
    whole = [name for name in pickles if name.startswith("pytorch_model")]
    pattern = shlex.quote(f"{folder}/{'pytorch_model*.bin' if whole else pickles[0]}")
    target = shlex.quote(f"{folder}/model.safetensors")
    code = (
        "import glob, sys, torch; from safetensors.torch import save_file; "
        "parts = [torch.load(f, map_location='cpu', weights_only=True) "
        "for f in sorted(glob.glob(sys.argv[1]))]; "
        "save_file({k: v.clone().contiguous() for p in parts for k, v in p.items()}, "
        "sys.argv[2], {'format': 'pt'})"
    )
    return f'python -c "{code}" {pattern} {target}'
