"""One held-out scene under two questions: what the relevance modules keep, side by side.

python -m examples.digits.heat FOLDER OUTPUT.png [--index N] [--kept K]
"""

from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import numpy as np
import torch
import typer

from .language import Encoder
from .questions import example
from .scenes import CELL
from .selection import relevances
from .storage import load_network

mpl.use("agg")
from matplotlib import pyplot as plt


@torch.inference_mode()
def main(
    folder: Annotated[Path, typer.Argument(help="A checkpoint or the state of a training run.")],
    output: Annotated[Path, typer.Argument(help="PNG to write.")],
    question: Annotated[list[str], typer.Option(help="A question; give two.")] = [  # noqa: B006
        "Which digit is at the top left?",
        "Which digit is at the bottom right?",
    ],
    index: Annotated[int, typer.Option(help="Number of the held-out scene.")] = 0,
    kept: Annotated[int, typer.Option(help="Visual tokens to keep, outlined.")] = 8,
) -> None:
    """Draw the relevance of every token cell over the scene."""
    network, relevance, tokenizer = load_network(folder)
    if relevance is None:
        raise typer.BadParameter(f"{folder} has no trained relevance modules")
    encoder = Encoder(tokenizer)
    pixels = example(0, "test", index)[0].pixels()
    side = pixels.shape[0] // CELL
    embeddings = network.model.model.language_model.embed_tokens.weight
    figure, axes = plt.subplots(
        1, len(question) + 1, figsize=(3 * (len(question) + 1), 3.3), layout="constrained"
    )
    axes[0].imshow(pixels)
    axes[0].set_title(f"held-out scene {index}", fontsize=9)
    for place, text in zip(axes[1:], question, strict=True):
        ids = torch.tensor(encoder.ids(text))[None, None]
        scores = relevances(
            relevance.double(),
            torch.from_numpy(pixels)[None],
            ids,
            torch.tensor([[ids.shape[-1]]]),
            embeddings,
            (side, side),
        )[0, 0]
        heat = scores.view(side, side).numpy()
        place.imshow(pixels.mean(-1), cmap="gray")
        large = np.kron(heat, np.ones((CELL, CELL)))
        place.imshow(large, cmap="inferno", alpha=0.55)
        for cell in scores.topk(kept).indices.tolist():
            row, column = divmod(cell, side)
            corner = (column * CELL - 0.5, row * CELL - 0.5)
            place.add_patch(plt.Rectangle(corner, CELL, CELL, fill=False, color="cyan", lw=1))
        place.set_title(text, fontsize=9)
    for place in axes:
        place.axis("off")
    figure.savefig(output, dpi=120)


if __name__ == "__main__":
    typer.run(main)
