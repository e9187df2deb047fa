"""A real decoder of the tiny checkpoint, requests for it, and transformers' own answers."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.arr_coc.export.decoder import export_text_model
from builder.arr_coc.reference import Reference
from builder.runtime.models.language.batcher import EXTRA_ROWS, BatcherSettings, ContinuousBatcher
from builder.runtime.models.language.decoder import Decoder
from builder.runtime.models.language.generation import Generation, Piece, Summary
from builder.runtime.models.language.options import GenerationOptions
from builder.runtime.models.language.positions import build_sequence
from builder.runtime.models.language.session import SessionSettings
from builder.runtime.models.language.text import TextStream
from builder.spec.language import LanguageStage
from builder.spec.releases import onnx_limits

GRID = (4, 4)
MAX_LENGTH = 192


@dataclass
class Answer:
    """A sink that keeps everything; may leave, or fail, after some tokens."""

    leave_after: int | None = None
    fail_after: int | None = None
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    summary: Summary | None = None
    error: str = ""
    endings: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def send(self, piece: Piece) -> None:
        assert not self.done.is_set()
        self.text += piece.text
        self.tokens += piece.ids
        self.logprobs += piece.logprobs
        if self.fail_after is not None and len(self.tokens) >= self.fail_after:
            raise ConnectionError("the client is gone")

    def finish(self, piece: Piece, summary: Summary) -> None:
        self.fail_after = None
        self.send(piece)
        self.summary = summary
        self.endings += 1
        self.done.set()

    def fail(self, message: str) -> None:
        self.error = message
        self.endings += 1
        self.done.set()

    def is_cancelled(self) -> bool:
        return self.leave_after is not None and len(self.tokens) >= self.leave_after


@pytest.fixture(scope="session")
def artifact(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("decoder") / "decoder.onnx"
    export_text_model(
        reference.source.text_model,
        reference.source.model.lm_head,
        path,
        precision="fp32",
        stage=LanguageStage(),
        limits=onnx_limits("24.10"),
    )
    return path


StartBatcher = Callable[..., ContinuousBatcher]


@pytest.fixture
def start_batcher(artifact: Path) -> Any:
    engines: list[ContinuousBatcher] = []

    def start(
        slots: int = 4, *, kv_tokens: int | None = None, **settings: Any
    ) -> ContinuousBatcher:
        decoder = Decoder(artifact, slots + EXTRA_ROWS, MAX_LENGTH, SessionSettings(2), kv_tokens)
        engine = ContinuousBatcher(decoder, [], BatcherSettings(slots, **settings), print)
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        engine.stop()
        assert engine.stats.blocks_used == 0
        assert engine.stats.running == engine.stats.waiting == 0


@dataclass(frozen=True)
class Request:
    """A random picture and question."""

    seed: int
    max_tokens: int = 12
    text_tokens: int = 20

    def generation(self, reference: Reference, sink: Answer, **options: Any) -> Generation:
        ids, embeds, kept = self.parts(reference)
        image = reference.source.facts.image_token_id
        sequence = build_sequence(ids, kept, GRID, image)
        stop = options.get("stop", ())
        tokenizer = reference.source.facts.tokenizer.backend_tokenizer
        return Generation(
            sequence,
            embeds,
            GenerationOptions(self.max_tokens, 16, **options),
            sink,
            TextStream(tokenizer, stop),
        )

    def parts(self, reference: Reference) -> tuple[Any, Any, Any]:
        """Ids with one placeholder, embeddings of the kept cells, the kept cells."""
        rng = np.random.default_rng(self.seed)
        text = rng.integers(4, 300, self.text_tokens)
        opening = np.arange(5, 13)
        image = reference.source.facts.image_token_id
        ids = np.concatenate((opening, [image], text)).astype(np.int32)
        kept = np.sort(rng.permutation(16)[: int(rng.integers(1, 17))]).astype(np.int32)
        width = reference.source.embeddings.shape[1]
        scale = float(reference.source.embeddings.detach().std())
        embeds = (rng.normal(size=(kept.size, width)) * scale).astype(np.float32)
        return ids, embeds, kept

    @torch.no_grad()
    def expected(self, reference: Reference) -> list[int]:
        """Greedy tokens of transformers' own forward over the same sequence."""
        ids, embeds, kept = self.parts(reference)
        sequence = build_sequence(ids, kept, GRID, reference.source.facts.image_token_id)
        vectors = reference.source.embeddings[torch.from_numpy(sequence.input_ids)].clone()
        vectors[torch.from_numpy(sequence.visual_mask)] = torch.from_numpy(embeds)
        vectors = vectors[None]
        positions = torch.from_numpy(sequence.position_ids)[:, None]
        cache, tokens = None, []
        for step in range(self.max_tokens):
            output = reference.source.text_model(
                inputs_embeds=vectors,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
            cache = output.past_key_values
            token = int(reference.source.model.lm_head(output.last_hidden_state[0, -1]).argmax())
            tokens.append(token)
            vectors = reference.source.embeddings[token].reshape(1, 1, -1)
            positions = torch.full((3, 1, 1), sequence.next_position + step)
        return tokens


def ask(
    engine: ContinuousBatcher, reference: Reference, requests: list[Request], **options: Any
) -> list[Answer]:
    """Submit all at once and wait."""
    sinks = [Answer() for _ in requests]
    for request, sink in zip(requests, sinks, strict=True):
        engine.submit(request.generation(reference, sink, **options))
    for sink in sinks:
        assert sink.done.wait(120)
        assert not sink.error
    return sinks
