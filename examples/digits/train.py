"""Train the digits checkpoint: `python -m examples.digits.train --state FOLDER --output FOLDER`.

Phases, each with its own learning-rate schedule:

    read      the tower reads single digits of changing place, size and colour (4 x 4 cells)
    scenes    the same over whole scenes (8 x 8 cells)
    answers   tower and language model answer six questions a scene, all tokens kept
    select    the relevance modules learn from the answer loss which tokens to keep, tower frozen
    together  all of it learns on with what is kept
    settle    the same with the number kept near 16, counting weighing more

A run continues from the state folder; every batch is a function of (seed, phase, step).
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.data import DataLoader

from builder.arr_coc.modules.relevance import Relevance

from .batches import ONE_DIGIT, QUESTIONS, SCENES, SINGLE_QUESTIONS, Batches, Shape
from .model import build_model
from .network import Network
from .selection import build_relevance, gates, relevances
from .state import STATE, load_moments, load_state, save_state
from .storage import save_checkpoint
from .vocabulary import build_tokenizer

CURVE = "curve.jsonl"
SAVE_EVERY = 250
LOG_EVERY = 25
WARM_STEPS = 100


@dataclass(frozen=True)
class Phase:
    """One phase of the recipe.

    `rate` is the highest learning rate, `relevance_rate` that of the relevance modules (0: all
    tokens are kept). `temperature` is that of the straight-through top-K; `tower` says
    whether the tower learns too. `near` is the share of the questions whose K is drawn from
    NEAR; `counting` the weight of a counting question, of another 1.
    """

    name: str
    shape: Shape
    steps: int
    rate: float
    relevance_rate: float = 0.0
    temperature: float = 0.5
    tower: bool = True
    near: float = 0.0
    counting: float = 1.0


PHASES = (
    Phase("read", ONE_DIGIT, 2000, 4e-3),
    Phase("scenes", SCENES, 1000, 2e-3),
    Phase("answers", QUESTIONS, 3500, 2e-3),
    Phase("select", SINGLE_QUESTIONS, 500, 5e-4, relevance_rate=1e-2, tower=False),
    Phase("together", SINGLE_QUESTIONS, 1600, 1e-3, relevance_rate=5e-3),
    Phase("settle", SINGLE_QUESTIONS, 700, 1e-3, relevance_rate=3e-3, near=0.5, counting=2.0),
)
# K of the soft top-K is drawn between these, small ones as often as large ones.
FEWEST_KEPT, MOST_KEPT = 3, 64
NEAR = (12, 20)
# This share of the questions keeps all tokens.
WHOLE = 0.2
# Weight of the per-token losses beside the answer loss.
TOKEN_SHARE = 0.3


def optimizers(phase: Phase, network: Network, relevance: Relevance) -> list[Any]:
    """Muon (K. Jordan et al., 2024) for the layers' matrices, AdamW for everything else.

    Each parameter group carries its highest learning rate as `peak`.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if not phase.tower and ("visual" in name or name.startswith("heads")):
            continue
        inner = ".blocks." in name or ".layers." in name or ".merger.mlp." in name
        (matrices if inner and parameter.ndim == 2 else rest).append(parameter)
    groups = [{"params": rest, "peak": phase.rate}]
    if phase.relevance_rate:
        groups.append({"params": list(relevance.parameters()), "peak": phase.relevance_rate})
    return [
        torch.optim.Muon(
            [{"params": matrices, "peak": phase.rate}],
            lr=0.0,
            weight_decay=0.01,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def schedule(phase: Phase, step: int) -> float:
    """Share of the highest learning rate: linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / WARM_STEPS)
    return warm * (0.5 + 0.5 * math.cos(math.pi * step / phase.steps))


def phase_loss(
    phase: Phase, network: Network, relevance: Relevance, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, float]]:
    """Loss and measures of one batch."""
    with torch.set_grad_enabled(phase.tower):
        tokens = network.see(batch["pixels"])
        loss, measures = network.token_loss(tokens, batch["labels"])
    if not phase.shape.questions:
        return loss, measures
    if phase.relevance_rate:
        answer, more = selection_loss(phase, tokens, network, relevance, batch)
    else:
        answer, more = network.question_loss(tokens, batch["ids"], batch["targets"])
    measures |= more | {"answer loss": float(answer.detach())}
    return answer + TOKEN_SHARE * loss, measures


def selection_loss(
    phase: Phase,
    tokens: torch.Tensor,
    network: Network,
    relevance: Relevance,
    batch: dict[str, torch.Tensor],
) -> tuple[torch.Tensor, dict[str, float]]:
    """Answer loss over softly selected tokens [B, N, D]."""
    side = math.isqrt(tokens.shape[1])
    embeddings = network.model.model.language_model.embed_tokens.weight
    with torch.autocast("cpu", enabled=False):
        scores = relevances(
            relevance, batch["pixels"], batch["query"], batch["length"], embeddings, (side, side)
        )
        generator = torch.Generator().manual_seed(int(batch["pixels"].sum()))
        share = torch.rand(scores.shape[:-1], generator=generator)
        kept = FEWEST_KEPT * (MOST_KEPT / FEWEST_KEPT) ** (share / (1 - WHOLE)).clamp(max=1)
        near = torch.rand(share.shape, generator=generator) < phase.near
        around = torch.randint(NEAR[0], NEAR[1] + 1, share.shape, generator=generator)
        # What keeps all tokens goes on doing so.
        kept = torch.where(near & (share < 1 - WHOLE), around.to(kept.dtype), kept)
        chosen = gates(scores, kept, phase.temperature)
    weight = 1 + (phase.counting - 1) * batch["counting"].float()
    return network.gated_loss(tokens, batch["ids"], batch["targets"], chosen, weight)


def fast_dtype() -> torch.dtype:
    """bf16 where the processor multiplies it (twice the speed), else fp32."""
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def steps_of(dataset: Batches, start: int, workers: int) -> Iterator[dict[str, torch.Tensor]]:
    """The batches from `start` on, made beside the training when there are workers."""
    return iter(
        DataLoader(
            dataset, batch_size=None, sampler=range(start, len(dataset)), num_workers=workers
        )
    )


class Run:
    """A training run: network, optimizers and where they are kept."""

    def __init__(self, folder: Path, seed: int, workers: int, quiet: bool) -> None:
        self.folder, self.seed, self.workers, self.quiet = folder, seed, workers, quiet
        self.tokenizer = build_tokenizer()
        self.network = Network(build_model(self.tokenizer, seed), self.tokenizer)
        self.relevance = build_relevance(self.network.model.config.text_config.hidden_size, seed)
        self.modules = {"network": self.network, "relevance": self.relevance}
        self.done: dict[str, int] = {}
        self._resume_moments = False
        if (folder / STATE).exists():
            self.done = load_state(folder / STATE, self.modules)["done"]
            self._resume_moments = True

    def train(self, phase: Phase) -> None:
        """Run a phase from where it stopped."""
        start = self.done.get(phase.name, 0)
        if start >= phase.steps:
            return
        tools = optimizers(phase, self.network, self.relevance)
        if start and self._resume_moments:
            load_moments(self.folder / STATE, tools)
        number = [each.name for each in PHASES].index(phase.name)
        dataset = Batches(phase.shape, 1000 * self.seed + number, phase.steps, self.tokenizer)
        dtype = fast_dtype()
        sums: dict[str, float] = {}
        begun, since = time.monotonic(), start
        with self._bar() as bar:
            task = bar.add_task(phase.name, total=phase.steps, completed=start, note="")
            for step, batch in enumerate(steps_of(dataset, start, self.workers), start):
                with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    loss, measures = phase_loss(phase, self.network, self.relevance, batch)
                for tool in tools:
                    tool.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                for tool in tools:
                    for group in tool.param_groups:
                        group["lr"] = group["peak"] * schedule(phase, step)
                    tool.step()
                for name, value in (measures | {"loss": float(loss.detach())}).items():
                    sums[name] = sums.get(name, 0.0) + value
                self.done[phase.name] = step + 1
                if (step + 1) % LOG_EVERY == 0 or step + 1 == phase.steps:
                    count = step + 1 - since
                    means = {name: round(value / count, 4) for name, value in sums.items()}
                    speed = count * phase.shape.pictures / (time.monotonic() - begun)
                    self._log(phase, step + 1, means, speed)
                    note = " ".join(f"{name} {value:.3f}" for name, value in means.items())
                    bar.update(task, note=f"{note} {speed:.0f}/s")
                    sums, begun, since = {}, time.monotonic(), step + 1
                if (step + 1) % SAVE_EVERY == 0 or step + 1 == phase.steps:
                    save_state(self.folder / STATE, self.modules, tools, {"done": self.done})
                bar.update(task, completed=step + 1)

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            disable=self.quiet,
        )

    def _log(self, phase: Phase, step: int, means: dict[str, float], speed: float) -> None:
        row = {"phase": phase.name, "step": step, **means, "scenes a second": round(speed)}
        with (self.folder / CURVE).open("a") as file:
            file.write(json.dumps(row) + "\n")


def main(
    state: Annotated[Path, typer.Option(help="Folder of the run's state; continued if it exists.")],
    seed: Annotated[int, typer.Option(help="Seed of weights and scenes.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 2,
    workers: Annotated[int, typer.Option(help="Processes that make scenes; 0: none.")] = 1,
    quiet: Annotated[bool, typer.Option(help="No progress bar.")] = False,
    compiled: Annotated[bool, typer.Option(help="Compile the forwards (needs g++).")] = True,
    until: Annotated[str, typer.Option(help="Last phase to run.")] = PHASES[-1].name,
    output: Annotated[Path | None, typer.Option(help="Folder for the finished checkpoint.")] = None,
) -> None:
    """Train, or continue training, and write the checkpoint."""
    torch.set_num_threads(threads)
    state.mkdir(parents=True, exist_ok=True)
    run = Run(state, seed, workers, quiet)
    if compiled:
        run.network.compile_forwards()
    for phase in PHASES:
        run.train(phase)
        if phase.name == until:
            break
    if output is not None:
        save_checkpoint(output, run.network.model, run.tokenizer, run.relevance)


if __name__ == "__main__":
    typer.run(main)
