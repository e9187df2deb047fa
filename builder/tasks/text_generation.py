"""Text generation: a decoder-only checkpoint behind the language stage, or behind vLLM."""

import json
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from builder.checkpoint.files import CheckpointFiles
from builder.errors import CheckpointError, SpecError
from builder.export.decoder import DTYPES, at_precision, export_step
from builder.recipe import VERSION
from builder.render.generation import ANSWER, REQUEST_OPTIONS
from builder.render.model_config import InstanceGroup, ModelConfig, Tensor
from builder.render.settings import decoder_values, device
from builder.runtime.models.common.settings import to_parameters
from builder.runtime.models.generate.chat import ChatTemplate
from builder.runtime.models.language.decoder import Decoder
from builder.runtime.models.language.language_settings import ServedSettings
from builder.runtime.models.language.session import SessionSettings
from builder.spec.releases import OnnxLimits
from builder.spec.task import TaskSpec
from builder.targets import runtime_requirements
from builder.tasks.decoders import attention_window, make_step, require_covered
from builder.tasks.generation import (
    Limits,
    end_tokens,
    generation_of,
    precision_of,
    refuse_keys,
    tolerance_of,
)
from builder.tasks.samples import TEXTS, long_text
from builder.tasks.task import Artifact, Description, Graph
from builder.tasks.text import save_tokenizer
from builder.verify.measure import ParityRow, compare

PROMPT = Tensor("PROMPT", "STRING", (1,), optional=True)
MESSAGES = Tensor("MESSAGES", "STRING", (1,), optional=True)
_PICTURES = {"VISUAL_TOKENS", "KEPT_INDICES", "RELEVANCE_MAP"}
INPUTS = (PROMPT, MESSAGES, *(t for t in REQUEST_OPTIONS if t.name not in _PICTURES))
OUTPUTS = tuple(t for t in ANSWER if t.name not in _PICTURES)

_BATCHES = ((0,), (2, 3, 4, 5, 6, 7))
"""Places in `TEXTS`; none is empty."""
_LONGEST = 512
"""Tokens of the longest prompt that is compared."""
_STEPS = 8
"""Decode steps that are compared after the prefill."""


class TextGeneration:
    """Any `...ForCausalLM` of a covered architecture: one decoupled model."""

    def __init__(self, spec: TaskSpec, files: CheckpointFiles) -> None:
        """Read tokenizer, chat template and limits.

        Raises:
            CheckpointError: the checkpoint can't do the task.
            SpecError: the spec asks for more than it takes.
        """
        self.spec = spec
        self.files = files
        self.settings = generation_of(spec)
        refuse_keys(spec, "model", "sequence_buckets", "long_text", "tokenizers")
        if self.settings.engine == "vllm" and spec.target != "gpu":
            raise SpecError("generation.engine: vllm needs target: gpu")
        if self.settings.engine == "onnxruntime":
            require_covered(files.source, files.config)
        self.tokenizer = files.tokenizer()
        self.end_tokens = end_tokens(files, self.tokenizer)
        bounds = (files.config.max_position_embeddings, attention_window(files.config))
        known = [int(bound) for bound in bounds if bound]
        self.limits = Limits.of(self.settings, min(known) if known else None, files.source)
        self.chat = self._chat()

    def _chat(self) -> dict[str, Any] | None:
        """Template and special tokens, where the checkpoint has a chat template."""
        if not self.tokenizer.chat_template:
            return None
        special = self.tokenizer.special_tokens_map
        chat = {
            "template": self.tokenizer.get_chat_template(),
            "special_tokens": {k: v for k, v in special.items() if isinstance(v, str)},
        }
        try:
            ChatTemplate(**chat)
        except jinja2.TemplateError as error:
            raise CheckpointError(
                f"{self.files.source}: its chat template is not valid: {error}"
            ) from error
        return chat

    # What the build asks.

    def describe(self) -> Description:
        """What `builder init` writes into a spec."""
        return Description(
            architecture=", ".join(self.files.architectures) or self.files.config.model_type,
            inputs=INPUTS,
            outputs=OUTPUTS,
            graph_inputs=(),
            graph_outputs=(),
            template="generation.yaml.j2",
            settings={
                "limits": self.limits,
                "positions": self.files.config.max_position_embeddings,
                "chat": self.chat is not None,
            },
        )

    def stages(self) -> dict[str, str]:
        """The whole is one Python stage; vLLM brings its own."""
        return {} if self.settings.engine == "vllm" else {self.spec.name: "generate"}

    def requirements(self) -> list[str]:
        """What the stage imports."""
        if self.settings.engine == "vllm":
            return []
        return runtime_requirements(self.spec.target, "jinja2>=3.1.6", "tokenizers>=0.20")

    def configs(self) -> list[ModelConfig]:
        """One model."""
        if self.settings.engine == "vllm":
            return [self._vllm_config()]
        settings, limits = self.settings, self.limits
        return [
            ModelConfig(
                backend="python",
                name=self.spec.name,
                max_batch_size=1,
                inputs=INPUTS,
                outputs=OUTPUTS,
                instance_group=(InstanceGroup(1, device(settings.kind, self.spec.target)),),
                decoupled=True,
                parameters=to_parameters(
                    ServedSettings(
                        **decoder_values(settings),
                        default_max_tokens=limits.default_answer,
                        end_token_ids=self.end_tokens,
                        max_sequence_length=limits.sequence,
                        max_tokens=limits.answer,
                    )
                ),
            )
        ]

    def _vllm_config(self) -> ModelConfig:
        """As the vLLM backend's sample has it; the backend completes inputs and outputs."""
        return ModelConfig(
            backend="vllm",
            name=self.spec.name,
            max_batch_size=0,
            inputs=(
                Tensor("text_input", "STRING", (1,)),
                Tensor("stream", "BOOL", (1,), optional=True),
                Tensor("sampling_parameters", "STRING", (1,), optional=True),
            ),
            outputs=(Tensor("text_output", "STRING", (-1,)),),
            instance_group=(InstanceGroup(1, "MODEL"),),
            decoupled=True,
        )

    def write_files(self, folder: Path) -> None:
        """Tokenizer and chat template, or vLLM's engine arguments."""
        version = folder / self.spec.name / VERSION
        if self.settings.engine == "vllm":
            text = json.dumps(self.vllm_arguments(), indent=2)
            (version / "model.json").write_text(text + "\n")
            return
        save_tokenizer(self.tokenizer, version / "tokenizer.json")
        if self.chat is not None:
            text = json.dumps(self.chat, ensure_ascii=False, indent=2)
            (version / "chat_template.json").write_text(text + "\n")

    def vllm_arguments(self) -> dict[str, Any]:
        """Arguments of vLLM's `AsyncEngineArgs`."""
        return {
            "model": self.files.source,
            "dtype": "auto",
            "max_model_len": self.limits.sequence,
            "max_num_seqs": self.settings.slots,
            **({"revision": r} if (r := self.spec.checkpoint.revision) else {}),
            **({"trust_remote_code": True} if self.spec.checkpoint.trust_remote_code else {}),
            **self.settings.vllm,
        }

    def graphs(self) -> list[Graph]:
        """None: the decoder is no graph that clients call."""
        return []

    def artifacts(self) -> list[Artifact]:
        """The decoder, beside the stage."""
        if self.settings.engine == "vllm":
            return []
        return [Artifact(self.spec.name, self._export, self._verify)]

    def _load(self) -> Any:
        return self.files.load(AutoModelForCausalLM, self.spec.task)

    def _export(self, folder: Path, limits: OnnxLimits) -> None:
        dtype = DTYPES[precision_of(self.spec)]
        model = at_precision(self._load(), dtype)
        step = make_step(model, quantized=self.settings.weights is not None)
        # Tensors of their own: the exporter takes one tensor in two places for one input.
        inputs = ("input_ids", "position_ids")
        export_step(
            step,
            [(name, torch.zeros((3, 5), dtype=torch.int64), (0, 1)) for name in inputs],
            folder / "decoder.onnx",
            dtype=dtype,
            engine=self.settings,
            limits=limits,
        )

    def _verify(self, folder: Path) -> list[ParityRow]:
        """Logits of a prefill and of joint decode steps; one prompt is as long as may be."""
        model = self._load()
        most = max(len(places) for places in _BATCHES)
        session = SessionSettings(self.settings.intra_op_thread_count)
        decoder = Decoder(folder / "decoder.onnx", most, self.limits.sequence, session)
        room = self.limits.sequence - _STEPS
        encode = self.tokenizer.backend_tokenizer.encode
        tensor = f"logits ({self.settings.weights} weights)" if self.settings.weights else "logits"
        rows = []
        for places in _BATCHES:
            prompts = [encode(TEXTS[place]).ids[:room] for place in places]
            if len(prompts) > 1:
                prompts[-1] = encode(long_text(room)).ids[: min(room, _LONGEST)]
            got, wanted = _logits(model, decoder, prompts)
            rows.append(compare(self.spec.name, tensor, got, wanted, tolerance_of(self.spec)))
        return rows


def _logits(
    model: Any, decoder: Decoder, prompts: list[list[int]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [B, 1 + steps, V] of the artifact and of the source, on any tokens."""
    rng = np.random.default_rng(0)
    first, wanted, answers = [], [], []
    for row, prompt in enumerate(prompts):
        answers.append(rng.integers(model.config.vocab_size, size=_STEPS).tolist())
        ids = torch.tensor([[*prompt, *answers[-1]]])
        with torch.inference_mode():
            logits = model(ids, logits_to_keep=_STEPS + 1).logits[0]
        wanted.append(logits.float().numpy())
        size = len(prompt)
        positions = np.broadcast_to(np.arange(size), (1, 3, size))
        prefill = decoder.step(
            row, np.array([prompt], dtype=np.int64), positions, np.array([size], dtype=np.int32)
        )
        first.append(prefill[0, 0].copy())
    got = [np.stack(first)]
    for step in range(_STEPS):
        tokens = np.array([[answer[step]] for answer in answers], dtype=np.int64)
        places = np.array([len(prompt) + step for prompt in prompts], dtype=np.int64)
        spread = np.repeat(places[:, None, None], 3, axis=1)
        got.append(decoder.step(0, tokens, spread, (places + 1).astype(np.int32))[:, 0].copy())
    return np.stack(got, axis=1), np.stack(wanted)
