"""The decoder artifact against transformers' own forward."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from builder.arr_coc.reference import Reference
from builder.arr_coc.verify.cases import ANSWER_TOKENS, Case
from builder.runtime.models.language.decoder import Decoder
from builder.runtime.models.language.positions import Sequence, build_sequence
from builder.runtime.models.language.session import SessionSettings
from builder.spec.models import Spec, Tolerance
from builder.verify.measure import ParityRow, compare


def _tolerance(spec: Spec) -> Tolerance:
    stage = spec.stages.language
    if stage.weights is not None:
        return spec.verify.int8 if stage.weights == "int8" else spec.verify.int4
    return spec.verify.fp32 if spec.precision_of(stage) == "fp32" else spec.verify.fp16


def decoder_parity(
    reference: Reference, path: Path, cases: Callable[[int], Iterable[Case]], threads: int
) -> list[ParityRow]:
    """Compare the logits of a prefill and of joint decode steps.

    Args:
        reference: The source.
        path: The artifact.
        cases: Gives a number of cases.
        threads: Of ONNX Runtime.

    Returns:
        A row a batch size; quantized weights have tolerances of their own.
    """
    spec = reference.spec
    stage = spec.stages.language
    most = max(spec.verify.batch_sizes)
    decoder = Decoder(path, most, stage.max_sequence_length, SessionSettings(threads))
    tensor = f"logits ({stage.weights} weights)" if stage.weights else "logits"
    rows = []
    for batch in spec.verify.batch_sizes:
        got, wanted = _logits(reference, decoder, cases(batch))
        rows.append(compare(stage.name, tensor, got, wanted, _tolerance(spec)))
    return rows


def _logits(
    reference: Reference, decoder: Decoder, cases: Iterable[Case]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [B, 1 + steps, V] of the artifact and of the source, on the source's tokens."""
    sequences: list[Sequence] = []
    tokens, wanted, first = [], [], []
    for row, (pixels, prompt) in enumerate(cases):
        picture = torch.from_numpy(pixels.copy())
        kept, _ = reference.select(picture, prompt)
        embeds, features = reference.see(picture)
        grid = reference.grid_of(picture)
        logits, generated = reference.logits(
            prompt, kept, embeds, ANSWER_TOKENS + 1, features, grid
        )
        beside = embeds if features is None else torch.cat((embeds, *features), dim=-1)
        wanted.append(logits.numpy())
        tokens.append(generated)
        places = np.sort(kept.numpy())
        sequence = build_sequence(
            np.array(prompt.prompt_ids, dtype=np.int32),
            places,
            grid,
            reference.source.facts.image_token_id,
            len(pixels) if pixels.ndim == 4 else 1,
        )
        sequences.append(sequence)
        size = sequence.input_ids.size
        visual = np.zeros((1, size, decoder.hidden_size), dtype=np.float32)
        visual[0, sequence.visual_mask] = beside.numpy()[places]
        prefill = decoder.step(
            row,
            sequence.input_ids[None],
            sequence.position_ids[None],
            np.array([size], dtype=np.int32),
            (sequence.visual_mask[None], visual),
        )
        first.append(prefill[0, 0].copy())
    got = [np.stack(first)]
    for step in range(ANSWER_TOKENS):
        ids = np.array([[generated[step]] for generated in tokens], dtype=np.int64)
        positions = np.array([s.next_position + step for s in sequences], dtype=np.int64)
        lengths = np.array([s.input_ids.size + step + 1 for s in sequences], dtype=np.int32)
        spread = np.repeat(positions[:, None, None], 3, axis=1)
        got.append(decoder.step(0, ids, spread, lengths)[:, 0].copy())
    return np.stack(got, axis=1), np.stack(wanted)
