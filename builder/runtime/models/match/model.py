"""Triton Python model: a picture's vector and labels in, SCORES of the labels out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from ..common.settings import missing_input, read_settings, required_inputs
from ..tokenize.texts import TextEncoder, TextError, decoded_texts
from .match_settings import MatchSettings
from .vectors import TextVectors, picture_scores


class TextModelError(RuntimeError):
    """The text model did not answer."""


class TritonPythonModel:
    """Scores a picture against labels; each text is embedded once and then remembered."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings from the model config's parameters."""
        config = json.loads(args["model_config"])
        settings = self._settings = read_settings(MatchSettings, config)
        folder = Path(args["model_repository"]) / args["model_version"]
        self._encoder = TextEncoder(
            Tokenizer.from_file(str(folder / "tokenizer.json")),
            settings.sequence_buckets,
            settings.pad_token_id,
            truncate=settings.truncate,
        )
        self._required = required_inputs(config)
        self._scale = float(json.loads((folder / "scale.json").read_text())["logit_scale"])
        self._vectors = TextVectors(self._embed, settings.cached_labels)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own; one bad request does not fail its batch."""
        responses = []
        for request in requests:
            try:
                responses.append(self._answer(request))
            except TextError as error:
                refusal = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse(error=refusal))
            except TextModelError as error:
                # Not the client's mistake, and not that of its neighbours in the batch.
                failure = pb_utils.TritonError(str(error), pb_utils.TritonError.INTERNAL)
                responses.append(pb_utils.InferenceResponse(error=failure))
        return responses

    def _answer(self, request: Any) -> Any:
        for name in self._required:
            if pb_utils.get_input_tensor_by_name(request, name) is None:
                raise TextError(missing_input(name))
        pictures = pb_utils.get_input_tensor_by_name(request, "image_embeds").as_numpy()
        labels = _strings(request, "LABELS")
        if labels.shape[-1] == 0:
            raise TextError("LABELS is empty; send the labels to choose from")
        templates = _strings(request, "TEMPLATE")
        if templates is None:
            templates = np.full((len(labels), 1), self._settings.template, dtype=object)
        texts = np.empty(labels.shape, dtype=object)
        for row, place in np.ndindex(labels.shape):
            template = templates[row, 0]
            if template.count("{}") != 1:
                raise TextError(f"TEMPLATE needs exactly one {{}} for the label: {template!r}")
            texts[row, place] = template.replace("{}", labels[row, place])
        vectors = self._vectors.of(texts.reshape(-1).tolist())
        found = np.stack(
            [
                picture_scores(picture, np.stack([vectors[text] for text in row]), self._scale)
                for picture, row in zip(pictures, texts, strict=True)
            ]
        )
        return pb_utils.InferenceResponse([pb_utils.Tensor("SCORES", found)])

    def _embed(self, texts: list[str]) -> Any:
        """Vectors of texts, by the text model: fp32 [texts, D].

        Raises:
            TextError: a text is too long.
            TextModelError: the text model failed.
        """
        model, batch = self._settings.text_model, self._settings.text_batch
        rows = []
        for first in range(0, len(texts), batch):
            tensors = self._encoder.tensors(texts[first : first + batch])
            call = pb_utils.InferenceRequest(
                model_name=model,
                requested_output_names=["text_embeds"],
                inputs=[
                    pb_utils.Tensor(name, np.ascontiguousarray(tensors[name]))
                    for name in ("input_ids", "attention_mask")
                ],
            )
            answer = call.exec()
            if answer.has_error():
                raise TextModelError(f"{model}: {answer.error().message()}")
            rows.append(pb_utils.get_output_tensor_by_name(answer, "text_embeds").as_numpy())
        return np.concatenate(rows)


def _strings(request: Any, name: str) -> Any:
    """Texts of an input, [B, n]; None where the request leaves it out."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    values = tensor.as_numpy()
    return np.array(decoded_texts(values, name), dtype=object).reshape(values.shape)
