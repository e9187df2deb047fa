"""Running the ONNX artifacts of the arr-coc stages against the plain torch reference."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from builder.arr_coc.reference import Reference
from builder.arr_coc.verify.cases import Case, Cases
from builder.arr_coc.verify.decoder import decoder_parity
from builder.spec.models import Tolerance
from builder.verify.measure import ParityRow, compare

_EXACT = Tolerance(max_abs_error=1e-5, min_cosine=0.999999)
"""The relevance graph computes in fp64 and answers in fp32."""


class Verifier:
    """Checks artifacts over real pictures at several batch sizes."""

    def __init__(self, reference: Reference, pictures: list[bytes], threads: int = 1) -> None:
        """Prepare the inputs once.

        Args:
            reference: The torch pipeline.
            pictures: Encoded pictures; they are cycled through.
            threads: Intra-op threads of ONNX Runtime.
        """
        self._reference = reference
        self._spec = reference.spec
        self._threads = threads
        self._cases = Cases(reference, pictures)

    def _session(self, path: Path) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def _tolerance(self, precision: str) -> Tolerance:
        return self._spec.verify.fp32 if precision == "fp32" else self._spec.verify.fp16

    def _runs(self) -> Iterator[tuple[list[Case], str]]:
        """Cases that make a batch, and what to add to the name of a tensor."""
        for kind in self._cases.kinds:
            for batch in self._spec.verify.batch_sizes:
                yield self._cases.of(kind, batch), kind.label

    def vision(self, path: Path) -> list[ParityRow]:
        """Visual embeddings (and DeepStack features) against the stock tower."""
        session = self._session(path)
        stage = self._spec.stages.vision
        tolerance = self._tolerance(self._spec.precision_of(stage))
        rows = []
        for cases, label in self._runs():
            feeds, wanted = self._vision_case(cases)
            got = session.run(list(wanted), feeds)
            for (tensor, value), array in zip(wanted.items(), got, strict=True):
                rows.append(compare(stage.name, f"{tensor}{label}", array, value, tolerance))
        return rows

    def _vision_case(
        self, cases: list[Case]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.float32]]]:
        """Inputs of the vision graph, and the outputs that the stock tower gives."""
        pruned = self._spec.prune == "before_vision"
        pixels, indices, seen = [], [], []
        for array, prompt in cases:
            picture = torch.from_numpy(array.copy())
            kept = self._reference.select(picture, prompt)[0] if pruned else None
            seen.append(self._reference.see(picture, kept))
            pixels.append(array)
            indices.append(kept)
        feeds: dict[str, NDArray[Any]] = {"pixels": np.stack(pixels)}
        if pruned:
            feeds["kept_indices"] = np.stack([kept.numpy() for kept in indices if kept is not None])
        wanted = {"image_embeds": np.stack([embeds.numpy() for embeds, _ in seen])}
        features = [layers.numpy() for _, layers in seen if layers is not None]
        if features:
            wanted["deepstack"] = np.stack(features)
        return feeds, wanted

    def relevance(self, path: Path) -> list[ParityRow]:
        """Kept indices and relevance map against the torch modules."""
        session = self._session(path)
        rows = []
        for cases, label in self._runs():
            queries = [self._reference.padded_query(prompt) for _, prompt in cases]
            feeds = {
                "pixels": np.stack([pixels for pixels, _ in cases]),
                "query_ids": np.concatenate([ids.numpy() for ids, _ in queries]),
                "query_length": np.concatenate([length.numpy() for _, length in queries]),
            }
            kept, relevance = session.run(["kept_indices", "relevance_map"], feeds)
            wanted = [
                self._reference.select(torch.from_numpy(p.copy()), prompt) for p, prompt in cases
            ]
            wanted_map = torch.stack([m for _, m in wanted]).numpy()
            name = self._spec.stages.relevance.name
            row = compare(name, f"relevance_map{label}", relevance, wanted_map, _EXACT)
            same = bool((kept == torch.stack([k for k, _ in wanted]).numpy()).all())
            rows.append(replace(row, indices_equal=same))
        return rows

    def decoder(self, path: Path) -> list[ParityRow]:
        """Logits of the language stage; see `arr_coc.verify.decoder`."""
        return decoder_parity(self._reference, path, self._cases.mixed, self._threads)

    def checks(self) -> dict[str, Callable[[Path], list[ParityRow]]]:
        """The check of each stage's artifact, by stage."""
        return {"vision": self.vision, "relevance": self.relevance, "language": self.decoder}
