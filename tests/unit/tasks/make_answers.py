"""Answers of transformers 4.57.6's question-answering pipeline, for `answers.json`.

5.x has no such pipeline, so it is run in the environment of `make install-optimum`:

    .venv-optimum/bin/python -m tests.unit.tasks.make_answers TOKENIZERS > answers.json

TOKENIZERS holds `bert` and `roberta`, saved from `examples.tiny.tasks` with 64 tokens. The model is
a formula over the token ids (`logits`): the test computes the same.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from builder.tasks.samples import TEXTS, long_text

MAX_TOKENS = 64
CASES = (
    ("Who joins requests?", TEXTS[0]),
    ("What does the batcher hold?", TEXTS[6]),
    ("Where is the fox?", TEXTS[3]),
    ("模型?", TEXTS[4]),
    ("Which emoji?", TEXTS[7]),
    ("What is all of this about?", long_text(4 * MAX_TOKENS)),
)
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"top_k": 4},
    {"handle_impossible_answer": True, "top_k": 3},
    {"max_answer_len": 3, "doc_stride": 16, "top_k": 2},
)


def logits(ids: Any) -> tuple[Any, Any]:
    """Start and end logits, any but the same for every id: fp32, shape of `ids`."""
    values = np.asarray(ids, dtype=np.float64)
    place = np.arange(values.shape[-1])
    start = 3 * np.sin(values * 0.37 + place * 0.11)
    end = 3 * np.cos(values * 0.23 + place * 0.05)
    return start.astype(np.float32), end.astype(np.float32)


def _main() -> None:
    # ruff: noqa: PLC0415 - the test needs only the formula
    import torch
    from transformers import (
        BertConfig,
        BertPreTrainedModel,
        PreTrainedTokenizerFast,
        pipeline,
    )
    from transformers.modeling_outputs import QuestionAnsweringModelOutput

    class Formula(BertPreTrainedModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(BertConfig())
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids: Any, **_: Any) -> Any:
            start, end = (torch.from_numpy(value) for value in logits(input_ids.numpy()))
            return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)

    found = {}
    for name in ("bert", "roberta"):
        folder = Path(sys.argv[1]) / name
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        answer = pipeline("question-answering", model=Formula(), tokenizer=tokenizer)
        found[name] = [
            [answer(question=q, context=c, max_seq_len=MAX_TOKENS, **options) for q, c in CASES]
            for options in OPTIONS
        ]
    json.dump(found, sys.stdout, indent=1, ensure_ascii=False)


if __name__ == "__main__":
    _main()
