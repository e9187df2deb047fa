"""Speech recognition: a Whisper checkpoint."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForSpeechSeq2Seq, WhisperFeatureExtractor

from builder.checkpoint.files import CheckpointFiles
from builder.checkpoint.hub import checkpoint_errors
from builder.errors import CheckpointError
from builder.recipe import VERSION
from builder.render.model_config import EnsembleStep, ModelConfig, Tensor
from builder.runtime.models.log_mel.log_mel_settings import LogMelSettings
from builder.runtime.models.log_mel.spectrogram import LogMel
from builder.runtime.models.seq2seq.rules import Rules
from builder.runtime.models.seq2seq.steps import CachedDecoder
from builder.spec.releases import OnnxLimits
from builder.spec.task import TaskSpec
from builder.targets import runtime_requirements
from builder.tasks.configs import ensemble, graph_stage, python_stage, same
from builder.tasks.generation import (
    answer_limits,
    answer_settings,
    generation_config,
    generation_of,
    on_device,
    refuse_keys,
)
from builder.tasks.seq2seq import decoder_parity, export_decoder
from builder.tasks.task import Artifact, Description, Graph, Sample
from builder.tasks.text import save_tokenizer
from builder.tasks.text2text import ANSWER, ENGINE_KEYS, OPTIONS, rules_of
from builder.verify.measure import ParityRow

AUDIO = Tensor("AUDIO", "FP32", (-1,))
TEXT = Tensor("TEXT", "STRING", (1,))


class SpeechEncoder(nn.Module):
    """`input_features` fp32 [B, mels, frames] -> the encoder's states fp32 [B, S, D]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        """One tensor."""
        states: torch.Tensor = self.encoder(input_features).last_hidden_state
        return states


def _opening(files: CheckpointFiles, rules: Rules) -> Rules:
    """Language, task and "no timestamps" behind the start, as `WhisperForConditionalGeneration`.

    The language is that of the generation config, else the likeliest is found for each recording;
    where neither language nor task is given, transformers puts no task token.

    Raises:
        CheckpointError: the generation config names a language or task that it has not.
    """
    config = generation_config(files)
    follow: list[int] = []
    languages = config.get("lang_to_id")
    detect: tuple[int, ...] = ()
    if languages:
        language, task = config.get("language"), config.get("task")
        if language is not None:
            task = task or "transcribe"
        if language is None:
            detect = tuple(int(token) for token in languages.values())
        elif f"<|{language}|>" in languages or language in languages:
            follow.append(int(languages.get(language) or languages[f"<|{language}|>"]))
        else:
            raise CheckpointError(f"{files.source}: its generation config has no '{language}'")
        if task is not None:
            if task not in config.get("task_to_id", {}):
                raise CheckpointError(f"{files.source}: its generation config has no task '{task}'")
            follow.append(int(config["task_to_id"][task]))
    if config.get("no_timestamps_token_id") is not None:
        follow.append(int(config["no_timestamps_token_id"]))
    return replace(rules, detect=detect, follow=tuple(follow))


class SpeechRecognition:
    """Spectrogram stage, encoder graph, and the stage that runs the decoder token by token."""

    def __init__(self, spec: TaskSpec, files: CheckpointFiles) -> None:
        """Read feature extractor, tokenizer and rules.

        Raises:
            CheckpointError: the checkpoint can't do the task.
            SpecError: the spec asks for more than it takes.
        """
        self.spec = spec
        self.files = files
        if files.config.model_type != "whisper":
            raise CheckpointError(
                f"{files.source} is a '{files.config.model_type}' model; "
                "automatic-speech-recognition exports whisper checkpoints"
            )
        refuse_keys(spec, "sequence_buckets", "long_text", "tokenizers")
        refuse_keys(spec, *(f"generation.{key}" for key in ENGINE_KEYS))
        self.settings = generation_of(spec)
        self.tokenizer = files.tokenizer()
        if files.json("preprocessor_config.json") is None:
            raise CheckpointError(
                f"{files.source} has no preprocessor_config.json, which says how spectrograms are "
                "made"
            )
        with checkpoint_errors(files.source):
            extractor = WhisperFeatureExtractor.from_pretrained(files.source, **files.options)
        settings = LogMelSettings(
            n_fft=int(extractor.n_fft),
            hop_length=int(extractor.hop_length),
            sampling_rate=int(extractor.sampling_rate),
            samples=int(extractor.n_samples),
        )
        self.log_mel = LogMel(np.asarray(extractor.mel_filters, dtype=np.float64), settings)
        self.rules = _opening(files, rules_of(files, self.tokenizer))
        opening = len(self.rules.start) + bool(self.rules.detect) + len(self.rules.follow)
        positions = int(files.config.max_target_positions) - opening
        self.limits = answer_limits(spec, positions, files.source)
        mels, frames = (
            self.log_mel.filters.shape[1],
            settings.samples // settings.hop_length,
        )
        self.features = Tensor("input_features", "FP32", (mels, frames))
        width = int(files.config.d_model)
        length = int(files.config.max_source_positions)
        self.states = Tensor("encoder_hidden_states", "FP32", (length, width))

    # What the build asks.

    @property
    def answer(self) -> tuple[Tensor, ...]:
        """The ensemble's outputs."""
        return (TEXT, *ANSWER[1:])

    def describe(self) -> Description:
        """What `builder init` writes into a spec."""
        return Description(
            architecture=", ".join(self.files.architectures) or self.files.config.model_type,
            inputs=(AUDIO, *OPTIONS),
            outputs=self.answer,
            graph_inputs=(self.features,),
            graph_outputs=(self.states,),
            settings={"limits": self.limits},
        )

    def _name(self, stage: str) -> str:
        return f"{self.spec.name}_{stage}"

    def stages(self) -> dict[str, str]:
        """Name of a Python model -> folder of its sources."""
        return {self._name(stage): stage for stage in ("log_mel", "seq2seq")}

    def requirements(self) -> list[str]:
        """What the Python stages import."""
        return runtime_requirements(self.spec.target, "tokenizers>=0.20")

    def configs(self) -> list[ModelConfig]:
        """Every model config, the ensemble last."""
        spec, batch = self.spec, self.spec.model.max_batch_size
        names = [self._name(stage) for stage in ("log_mel", "model", "seq2seq")]
        read = (self.states, *OPTIONS)
        text = {**same(*ANSWER), ANSWER[0].name: TEXT.name}
        configs = [
            python_stage(
                names[0],
                batch,
                (AUDIO,),
                (self.features,),
                settings=self.log_mel.settings,
            ),
            graph_stage(spec, names[1], (self.features,), (self.states,)),
            python_stage(
                names[2],
                batch,
                read,
                ANSWER,
                settings=answer_settings(self.limits, self.rules, self.rules.end[0], self.settings),
            ),
            ensemble(
                spec.name,
                batch,
                (AUDIO, *OPTIONS),
                self.answer,
                [
                    EnsembleStep(names[0], same(AUDIO), same(self.features)),
                    EnsembleStep(names[1], same(self.features), same(self.states)),
                    EnsembleStep(names[2], same(*read), text),
                ],
            ),
        ]
        return on_device(configs, names[2], spec)

    def write_files(self, folder: Path) -> None:
        """Mel filters and tokenizer."""
        np.save(folder / self._name("log_mel") / VERSION / "mel_filters.npy", self.log_mel.filters)
        path = folder / self._name("seq2seq") / VERSION / "tokenizer.json"
        save_tokenizer(self.tokenizer, path)

    @cached_property
    def model(self) -> Any:
        """The weights."""
        return self.files.load(AutoModelForSpeechSeq2Seq, self.spec.task)

    def _spectrograms(self) -> list[torch.Tensor]:
        """fp32 [1, mels, frames] of silence, a tone and noise."""
        settings = self.log_mel.settings
        time = np.arange(settings.samples) / settings.sampling_rate
        noise = np.random.default_rng(0).normal(size=time.size // 2)
        sounds = (np.zeros(1), np.sin(2760.0 * time) * 0.3, noise * 0.1)
        return [torch.from_numpy(self.log_mel(sound.astype(np.float32)))[None] for sound in sounds]

    def graphs(self) -> list[Graph]:
        """The encoder."""
        module = SpeechEncoder(self.model).eval()
        features = self._spectrograms()
        return [
            Graph(
                name=self._name("model"),
                module=module,
                inputs=(self.features,),
                outputs=(self.states,),
                axes={self.features.name: {0: "batch"}},
                example={self.features.name: torch.cat(features)},
                samples=lambda: self._samples(module, features),
            )
        ]

    def _samples(self, module: nn.Module, features: list[torch.Tensor]) -> Iterable[Sample]:
        with torch.inference_mode():
            wanted = [module(each).numpy() for each in features]
        for count in (1, len(features)):
            inputs = {self.features.name: torch.cat(features[:count]).numpy()}
            yield Sample(inputs, {self.states.name: np.concatenate(wanted[:count])})

    def artifacts(self) -> list[Artifact]:
        """The decoder, beside its stage."""
        return [Artifact(self._name("seq2seq"), self._export, self._verify)]

    def _export(self, folder: Path, limits: OnnxLimits) -> None:
        export_decoder(self.model, folder, limits, masked=False)

    def _verify(self, folder: Path) -> list[ParityRow]:
        model = self.model
        with torch.inference_mode():
            states = [model.get_encoder()(f).last_hidden_state for f in self._spectrograms()]
        decoder = CachedDecoder(folder, self.settings.intra_op_thread_count)
        name = self._name("seq2seq")
        return decoder_parity(name, model, decoder, states, self.rules, self.spec.tolerance)
