"""What of a model's output is served, one module a kind of task.

Builder and server run the same code: an ONNX graph is exported from these modules, and the torch
stage runs them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn


class ServedModule(nn.Module):
    """`input_ids`, `attention_mask`, `token_type_ids` int64 [B, S] -> logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> Any:
        """The model's whole output."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **types)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> Any:
        """What is served: a tensor, or a tuple of them."""
        return self.encode(input_ids, attention_mask, token_type_ids).logits


class HiddenStates(ServedModule):
    """fp32 [B, S, D]: a vector a token; padding is zeroed, so that its end can be seen."""

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The last hidden states."""
        output = self.encode(input_ids, attention_mask, token_type_ids)
        tokens: torch.Tensor = output.last_hidden_state
        return tokens * attention_mask.unsqueeze(-1).to(tokens.dtype)


class Sentence(ServedModule):
    """fp32 [B, D]: a vector a text, as sentence-transformers' modules make it."""

    def __init__(self, model: nn.Module, *, pooling: str, normalize: bool) -> None:
        super().__init__(model)
        self.pooling = pooling
        self.normalize = normalize

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Pooling by `mean`, `max` or `cls`, and normalization."""
        output = self.encode(input_ids, attention_mask, token_type_ids)
        tokens: torch.Tensor = output.last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
        if self.pooling == "cls":
            vector = tokens[:, 0]
        elif self.pooling == "max":
            vector = tokens.masked_fill(mask == 0, -1e9).amax(1)
        else:
            vector = (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(vector, dim=1) if self.normalize else vector


class AtMask(ServedModule):
    """fp32 [B, vocabulary]: logits at the (first) mask of each row; without one, at its start.

    The logits of all the other tokens never leave the graph: of 128 tokens and 30,522 words they
    would be 15 MB a text.
    """

    def __init__(self, model: nn.Module, *, mask_token_id: int) -> None:
        super().__init__(model)
        self.mask_token_id = mask_token_id

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The logits of one token a row."""
        logits = self.encode(input_ids, attention_mask, token_type_ids).logits
        place = (input_ids == self.mask_token_id).to(torch.int64).argmax(1)
        index = place[:, None, None].expand(-1, 1, logits.shape[-1])
        found: torch.Tensor = logits.gather(1, index).squeeze(1)
        return found


class AtEnd(ServedModule):
    """fp32 [B, labels]: what an encoder-decoder classifies, the state at each row's last eos.

    The models' own `forward` picks the states of all eos tokens of a batch at once, which a graph
    for any batch can't.
    """

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The logits of a row."""
        model: Any = self.model
        # BART shifts by itself; T5 and its own leave it to the classifier; what MBART does is for
        # the batch that it was traced with.
        decoder = {}
        if hasattr(model, "_shift_right"):
            decoder["decoder_input_ids"] = model._shift_right(input_ids)
        elif model.config.model_type in ("mbart", "plbart"):
            last = input_ids.ne(model.config.pad_token_id).sum(1, keepdim=True) - 1
            decoder["decoder_input_ids"] = torch.cat(
                (input_ids.gather(1, last), input_ids[:, :-1]), dim=1
            )
        states = model.base_model(
            input_ids, attention_mask=attention_mask, use_cache=False, **decoder
        ).last_hidden_state
        ends = (input_ids == model.config.eos_token_id).to(torch.int64)
        places = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
        index = (ends * places).argmax(1)[:, None, None].expand(-1, 1, states.shape[-1])
        logits: torch.Tensor = model.classification_head(states.gather(1, index).squeeze(1))
        return logits


class Windows(ServedModule):
    """Ids int64 [B, W, S], W windows a row -> start and end logits fp32 [B, W, S]."""

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Windows are rows to the model."""
        types = None if token_type_ids is None else token_type_ids.flatten(0, 1)
        output = self.encode(input_ids.flatten(0, 1), attention_mask.flatten(0, 1), types)
        shape = input_ids.shape
        return output.start_logits.reshape(shape), output.end_logits.reshape(shape)


HEADS: Mapping[str, Callable[..., ServedModule]] = {
    "at_end": AtEnd,
    "at_mask": AtMask,
    "hidden_states": HiddenStates,
    "logits": ServedModule,
    "sentence": Sentence,
    "windows": Windows,
}


def served_module(model: nn.Module, head: str, parameters: Mapping[str, Any]) -> nn.Module:
    """A model with a head.

    Args:
        model: A transformers model.
        head: A key of `HEADS`.
        parameters: Arguments of the head.
    """
    return HEADS[head](model, **parameters)
