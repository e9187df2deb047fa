"""Tasks that generate text: limits, rules, templates, failures; without a server."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    WhisperFeatureExtractor,
)

from builder.build import Build
from builder.cache.store import Store
from builder.checkpoint.files import open_checkpoint
from builder.errors import BuilderError, CheckpointError, SpecError
from builder.export.decoder import at_precision
from builder.progress import Progress
from builder.publish.manifest import Manifest, read_manifest
from builder.render.sources import copy_sources
from builder.render.templates import render_template
from builder.runtime.models.log_mel.spectrogram import AudioError
from builder.runtime.models.seq2seq.rules import Rules
from builder.runtime.models.seq2seq.steps import CachedDecoder
from builder.spec.load import load_any_spec
from builder.spec.models import Tolerance
from builder.spec.releases import onnx_limits
from builder.spec.task import TaskCheckpoint, TaskSpec
from builder.tasks import seq2seq
from builder.tasks.registry import guess_task, task_of
from examples.tiny.generation import (
    CAUSAL,
    make_causal,
    make_seq2seq,
    make_whisper,
    randomize,
)


class Quiet(Progress):
    """A build's progress, not shown."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generation")
    make_causal(folder / "llama", "llama")
    make_causal(folder / "mistral", "mistral")
    make_seq2seq(folder / "t5", "t5")
    make_seq2seq(folder / "bart", "bart")
    make_whisper(folder / "whisper")
    return folder


TASKS = {
    "llama": "text-generation",
    "mistral": "text-generation",
    "t5": "text2text-generation",
    "bart": "text2text-generation",
    "whisper": "automatic-speech-recognition",
}


def spec_of(path: str, **keys: Any) -> TaskSpec:
    task = keys.pop("task", None) or TASKS[path]
    return TaskSpec.model_validate(
        {"name": "it", "task": task, "checkpoint": {"path": path}, **keys}
    )


@pytest.mark.parametrize("name", TASKS)
def test_init_writes_a_spec_that_fits(name: str, folder: Path) -> None:
    files = open_checkpoint(TaskCheckpoint(path=name), folder)
    assert guess_task(files) == TASKS[name]
    described = task_of(spec_of(name), folder).describe()
    text = render_template(
        described.template,
        name="it",
        path=f'"{name}"',
        task=TASKS[name],
        described=described,
        threads=1,
    )
    path = folder / f"{name}.yaml"
    path.write_text(text)
    spec = load_any_spec(path)
    assert isinstance(spec, TaskSpec)
    configs = task_of(spec, folder).configs()
    assert configs[-1].name == "it"
    if TASKS[name] == "text-generation":
        assert spec.generation is not None
        assert spec.generation.max_sequence_length == (128 if name == "mistral" else 256)


@pytest.mark.parametrize("name", TASKS)
def test_decoders_run_where_the_target_is(name: str, folder: Path) -> None:
    for target, kind in (("cpu", "CPU"), ("gpu", "GPU")):
        configs = {c.name: c for c in task_of(spec_of(name, target=target), folder).configs()}
        decoder = configs.get("it_seq2seq", configs["it"])
        assert [group.kind for group in decoder.instance_group] == [kind]


@pytest.mark.parametrize(
    ("path", "generation", "sentence"),
    [
        ("llama", {"max_sequence_length": 512}, "512 is beyond the 256 positions"),
        ("mistral", {"max_sequence_length": 200}, "200 is beyond the 128 positions"),
        ("llama", {"max_sequence_length": 64, "max_tokens": 64}, "64 leaves no room for a prompt"),
        ("llama", {"engine": "vllm"}, "vllm needs target: gpu"),
        ("t5", {"slots": 4}, r"generation.slots has no meaning for text2text-generation"),
        ("bart", {"max_tokens": 300}, "300 is beyond the 256 positions that"),
        ("whisper", {"max_tokens": 64}, "64 is beyond the 61 positions"),
    ],
)
def test_a_spec_that_asks_too_much(
    path: str, generation: dict[str, Any], sentence: str, folder: Path
) -> None:
    with pytest.raises(SpecError, match=sentence):
        task_of(spec_of(path, generation=generation), folder)


def test_keys_that_a_task_has_not(folder: Path) -> None:
    with pytest.raises(SpecError, match="sequence_buckets has no meaning for text-generation"):
        task_of(spec_of("llama", sequence_buckets=[16]), folder)
    with pytest.raises(ValueError, match="generation is only for"):
        spec_of("llama", task="fill-mask", generation={})
    with pytest.raises(ValueError, match="engine arguments need engine: vllm"):
        spec_of("llama", generation={"vllm": {"seed": 1}})


def _changed(source: Path, target: Path, name: str, **values: Any) -> Path:
    """A copy of a checkpoint with changed values in one JSON file."""
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    content = json.loads((target / name).read_text())
    content.update(values)
    (target / name).write_text(json.dumps(content))
    return target


def test_checkpoints_that_can_not_generate(folder: Path, tmp_path: Path) -> None:
    def refused(path: Path, sentence: str, task: str = "text-generation") -> None:
        with pytest.raises(CheckpointError, match=sentence):
            task_of(spec_of(str(path), task=task), folder)

    tokenizer = AutoTokenizer.from_pretrained(folder / "llama")
    GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path / "headless")
    tokenizer.save_pretrained(tmp_path / "headless")
    refused(tmp_path / "headless", "a checkpoint for feature-extraction, not for text-generation")

    config = BertConfig(is_decoder=True, architectures=["BertLMHeadModel"])
    config.save_pretrained(tmp_path / "bert")
    refused(tmp_path / "bert", "'bert' model; text-generation exports llama, mistral, qwen2")

    config = LlamaConfig(
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(tmp_path / "dynamic")
    refused(tmp_path / "dynamic", "rope_type 'dynamic'.*which the exported decoder does not have")

    source = folder / "llama"
    endless = _changed(source, tmp_path / "e", "generation_config.json", eos_token_id=None)
    for name, key in (("config.json", "eos_token_id"), ("tokenizer_config.json", "eos_token")):
        content = json.loads((endless / name).read_text())
        (endless / name).write_text(json.dumps({**content, key: None}))
    refused(endless, "names no end-of-sequence token, so no answer would end; set eos_token_id")

    broken = _changed(source, tmp_path / "b", "tokenizer_config.json", chat_template="{% if %}")
    (broken / "chat_template.jinja").write_text("{% if %}")
    refused(broken, "its chat template is not valid")

    several = {"bad_words_ids": [[1, 2]]}
    words = _changed(folder / "t5", tmp_path / "w", "generation_config.json", **several)
    refused(words, "bad_words_ids of several tokens", "text2text-generation")

    lost = _changed(folder / "whisper", tmp_path / "l", "generation_config.json", language="fr")
    refused(lost, "has no 'fr'", "automatic-speech-recognition")
    (lost / "preprocessor_config.json").unlink()
    refused(lost, "has no preprocessor_config.json", "automatic-speech-recognition")


def test_vllm_is_rendered_and_valid(folder: Path, tmp_path: Path) -> None:
    generation = {"engine": "vllm", "slots": 16, "vllm": {"gpu_memory_utilization": 0.5}}
    spec = spec_of("llama", target="gpu", generation=generation)
    report = Build(spec, folder / "spec.yaml", tmp_path / "repository", Quiet()).run()
    assert report.parity == []
    arguments = json.loads((tmp_path / "repository/it/1/model.json").read_text())
    assert arguments == {
        "model": str(folder / "llama"),
        "dtype": "auto",
        "max_model_len": 256,
        "max_num_seqs": 16,
        "gpu_memory_utilization": 0.5,
    }
    text = (tmp_path / "repository/it/config.pbtxt").read_text()
    assert 'backend: "vllm"' in text
    assert "kind: KIND_MODEL" in text
    assert "decoupled: true" in text


def test_vllm_serves_architectures_that_are_not_exported(folder: Path, tmp_path: Path) -> None:
    config = _changed(folder / "llama", tmp_path / "olmo", "config.json", model_type="olmo2")
    spec = spec_of(str(config), task="text-generation", target="gpu", generation={"engine": "vllm"})
    assert task_of(spec, folder).configs()[0].backend == "vllm"
    with pytest.raises(CheckpointError, match=r"'olmo2' model.*engine: vllm serves others"):
        task_of(spec_of(str(config), task="text-generation"), folder)


def test_rules_are_those_of_transformers() -> None:
    rng = np.random.default_rng(0)
    rules = Rules(
        start=(1,),
        end=(2,),
        suppress=(3, 4),
        begin_suppress=(5,),
        min_new_tokens=3,
        no_repeat_ngram=2,
    )
    processors = LogitsProcessorList(
        [
            NoRepeatNGramLogitsProcessor(2),
            MinLengthLogitsProcessor(4, [2]),
            SuppressTokensLogitsProcessor([3, 4]),
            SuppressTokensAtBeginLogitsProcessor([5], 1),
        ]
    )
    for length in range(8):
        tokens = rng.integers(5, 9, length).tolist()
        logits = rng.normal(size=10).astype(np.float32)
        ids = torch.tensor([[1, *tokens]])
        wanted = processors(ids, torch.from_numpy(logits.copy())[None])[0].numpy()
        np.testing.assert_array_equal(rules.apply(logits, [1], tokens, 20), wanted)


def test_forced_tokens() -> None:
    rules = Rules(start=(1,), end=(2,), forced_bos=7, forced_eos=2)
    logits = np.zeros(10, dtype=np.float32)
    logits[4] = 1.0
    chosen = [int(rules.apply(logits, [1], [0] * n, 4).argmax()) for n in range(4)]
    assert chosen == [7, 4, 4, 2]


def test_spectrograms_are_those_of_whisper(folder: Path) -> None:
    kind: Any = task_of(spec_of("whisper"), folder)
    extractor = WhisperFeatureExtractor.from_pretrained(folder / "whisper")
    rng = np.random.default_rng(1)
    for size in (1, 399, 9000, 16000):
        audio = (rng.normal(size=size) * 0.1).astype(np.float32)
        wanted = extractor(audio, sampling_rate=16000, return_tensors="np").input_features[0]
        np.testing.assert_allclose(kind.log_mel(audio), wanted, rtol=0, atol=1e-5)
    for audio, sentence in (
        (np.zeros(0), "no samples"),
        (np.zeros(16001), "1.0 seconds at 16000 Hz; at most 1 are allowed"),
        (np.array([np.nan]), "no finite numbers"),
    ):
        with pytest.raises(AudioError, match=sentence):
            kind.log_mel.check(audio.astype(np.float32))


@pytest.mark.parametrize("stage", ["generate", "seq2seq", "log_mel", "language", "tokenize"])
def test_a_stage_lies_flat_with_what_it_borrows(stage: str, tmp_path: Path) -> None:
    copy_sources(stage, tmp_path)
    names = {path.stem for path in tmp_path.iterdir()}
    assert "model" in names
    assert "__init__" not in names
    for path in tmp_path.iterdir():
        for line in path.read_text().splitlines():
            assert not line.startswith("from ..")
            if line.startswith("from ."):
                assert line.split()[1].lstrip(".") in names


def test_no_weights_for_the_head(folder: Path, tmp_path: Path) -> None:
    """A config that claims a head which the weights lack is refused at the export."""
    config = GPT2Config(
        n_embd=8, n_layer=1, n_head=1, vocab_size=512, eos_token_id=1, tie_word_embeddings=False
    )
    GPT2Model(config).save_pretrained(tmp_path / "headless")
    AutoTokenizer.from_pretrained(folder / "llama").save_pretrained(tmp_path / "headless")
    path = tmp_path / "headless" / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "architectures": ["GPT2LMHeadModel"]}))
    spec = spec_of("headless", task="text-generation")
    with pytest.raises(BuilderError, match=r"has no weights for lm_head.weight \(1 missing\)"):
        Build(spec, tmp_path / "spec.yaml", tmp_path / "repository", Quiet()).run()
    assert not (tmp_path / "repository").exists()


def test_half_precision_keeps_the_angles(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder / "llama").eval()
    wanted = model.model.rotary_emb.inv_freq.clone()
    half = at_precision(model, torch.float16)
    assert half.lm_head.weight.dtype == torch.float16
    assert half.model.rotary_emb.inv_freq.dtype == torch.float32
    torch.testing.assert_close(half.model.rotary_emb.inv_freq, wanted, rtol=0, atol=0)


def test_quantized_weights_have_a_tolerance_of_their_own(folder: Path, tmp_path: Path) -> None:
    generation = {"weights": "int8", "weight_block_size": 16}
    spec = spec_of("llama", generation=generation, tolerance={"max_abs_error": 1e-4})
    repository = tmp_path / "repository"
    report = Build(spec, folder / "spec.yaml", repository, Quiet()).run()
    assert [row.tensor for row in report.parity] == ["logits (int8 weights)"] * 2
    assert all(1e-4 < row.max_abs_error < 1.0 for row in report.parity)
    strict = {**generation, "tolerance": {"max_abs_error": 1e-4, "min_cosine": 0.9}}
    spec = spec_of("llama", generation=strict)
    with pytest.raises(BuilderError, match="nothing was published; over tolerance"):
        Build(spec, folder / "spec.yaml", tmp_path / "never", Quiet()).run()
    assert not (tmp_path / "never").exists()


def test_a_decoder_comes_from_the_cache(folder: Path, tmp_path: Path) -> None:
    store, name = Store(tmp_path / "cache"), spec_of("llama").name
    texts: list[str] = []

    class Steps(Quiet):
        def step(self, text: str) -> None:
            texts.append(text)

    def build(**generation: Any) -> Manifest:
        texts.clear()
        spec = spec_of("llama", generation=generation)
        Build(spec, folder / "spec.yaml", tmp_path / "repository", Steps(), store).run()
        return read_manifest(tmp_path / "repository")

    first = build()
    assert "from the cache" not in " ".join(texts)
    second = build(slots=3)  # how it is served, not what it is
    assert f"{name} from the cache" in texts
    assert not any(text.startswith("export") for text in texts)
    assert second.only.parity == first.only.parity
    decoder = f"{name}/1/decoder.onnx"
    assert second.files[decoder] == first.files[decoder]
    build(weights="int8", weight_block_size=16)
    assert any(text.startswith("export") for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(CAUSAL))
def test_every_covered_decoder_is_its_source(family: str, tmp_path: Path) -> None:
    make_causal(tmp_path / family, family)
    spec = spec_of(family, task="text-generation")
    report = Build(spec, tmp_path / "spec.yaml", tmp_path / "repository", Quiet()).run()
    assert [row.batch for row in report.parity] == [1, 6]
    assert all(row.max_abs_error < 1e-4 for row in report.parity)


_SMALL = {
    "d_model": 32,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
}
_LAYERS = {"encoder_layers": 2, "decoder_layers": 2}
_HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}


@pytest.mark.slow
@pytest.mark.parametrize("family", seq2seq.COVERED)
def test_every_covered_encoder_decoder_is_its_source(family: str, tmp_path: Path) -> None:
    """Joint steps behind sources of unequal length, the cache starting empty."""
    sizes = _T5 if family in {"t5", "mt5"} else {**_SMALL, **_LAYERS, **_HEADS}
    ids = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0}
    config = AutoConfig.for_model(family, vocab_size=100, **ids, **sizes)
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config, attn_implementation="sdpa").eval()
    randomize(model.requires_grad_(False))
    seq2seq.export_decoder(model, tmp_path, onnx_limits("24.10"), masked=True)
    states = [
        model.get_encoder()(torch.randint(3, 99, (1, size))).last_hidden_state for size in (9, 4, 6)
    ]
    rules = Rules(start=(0,), end=(1,))
    decoder = CachedDecoder(tmp_path, threads=1)
    rows = seq2seq.decoder_parity("it", model, decoder, states, rules, Tolerance())
    assert [row.batch for row in rows] == [1, 3]
    assert all(row.max_abs_error < 1e-4 for row in rows)
