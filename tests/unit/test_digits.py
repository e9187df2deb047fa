"""The digits example: scenes, questions, tokenizer; training forwards against the stock ones."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from examples.digits.batches import Batches, Shape
from examples.digits.evaluate import evaluate
from examples.digits.handwriting import drawings, split_indices
from examples.digits.language import BLOCK, IGNORED, Encoder, language_states, layout
from examples.digits.model import build_model
from examples.digits.network import Network
from examples.digits.palette import COLOURS
from examples.digits.questions import KINDS, LARGER, WORDINGS, Question, example, questions
from examples.digits.scenes import SIDE, Digit, Scene, compose, scene_rng
from examples.digits.selection import build_relevance, gates, top
from examples.digits.state import load_moments, load_state, save_state
from examples.digits.storage import load_network, save_checkpoint
from examples.digits.tower import NOTHING, cell_labels, patches
from examples.digits.vocabulary import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return build_model(tokenizer).eval()


def scenes(count: int = 300) -> list[Scene]:
    return [compose(scene_rng(7, "test", index), "test") for index in range(count)]


def test_the_same_seed_gives_the_same_scene_question_and_pixels() -> None:
    for index in range(5):
        scene, question = example(3, "test", index)
        again, question_again = example(3, "test", index)
        assert scene == again
        assert question == question_again
        assert np.array_equal(scene.pixels(), again.pixels())


def test_other_seeds_splits_and_indices_give_other_scenes() -> None:
    seen = [
        example(seed, split, index)[0]
        for seed, split, index in itertools.product((0, 1), ("train", "test"), (0, 1))
    ]
    assert len(set(seen)) == len(seen)


def test_the_halves_share_no_drawing() -> None:
    train, test = set(split_indices("train")), set(split_indices("test"))
    assert not train & test
    assert len(train) + len(test) == 1797
    assert len(drawings("test")[0]) == len(test)


def test_training_scenes_draw_from_the_training_half_only() -> None:
    scene = compose(scene_rng(0, "train", 0), "train")
    images, digits = drawings(scene.split)
    for digit in scene.digits:
        assert digits[digit.source] == digit.digit
        assert images[digit.source].shape == (8, 8)


def test_digits_lie_inside_the_picture_without_overlap_in_different_colours() -> None:
    for scene in scenes():
        taken = np.zeros((SIDE, SIDE), int)
        for digit in scene.digits:
            assert 0 <= digit.top <= SIDE - digit.height
            assert 0 <= digit.left <= SIDE - digit.width
            taken[digit.top : digit.top + digit.height, digit.left : digit.left + digit.width] += 1
        assert taken.max() == 1
        assert len({digit.colour for digit in scene.digits}) == len(scene.digits)


def test_every_answer_is_the_only_right_one() -> None:
    """Checked from the text of the question alone, with rules of this test's own."""
    checked = dict.fromkeys(KINDS, 0)
    for index, scene in enumerate(scenes()):
        for question in questions(scene, scene_rng(8, "test", index)).values():
            candidates = right_answers(scene, question)
            assert candidates == [question.answer], (scene, question)
            checked[question.kind] += 1
    assert min(checked.values()) > 50


def right_answers(scene: Scene, question: Question) -> list[str]:
    text = question.text
    digits = scene.digits
    colour = [name for name in COLOURS if f" {name}" in text]
    number = [char for char in text if char.isdigit()]
    if question.kind == "count":
        return [str(len(digits))]
    if question.kind == "colour_to_digit":
        return [str(d.digit) for d in digits if d.colour == colour[0]]
    if question.kind == "digit_to_colour":
        return [d.colour for d in digits if str(d.digit) == number[0]]
    if question.kind == "largest":
        return [
            str(d.digit)
            for d in digits
            if all(d is other or d.height >= LARGER * other.height for other in digits)
        ]
    if question.kind == "corner":
        rows = (0, SIDE / 2) if "top" in text else (SIDE / 2, SIDE)
        columns = (0, SIDE / 2) if "left" in text else (SIDE / 2, SIDE)
        return [
            str(d.digit)
            for d in digits
            if rows[0] <= d.y < rows[1] and columns[0] <= d.x < columns[1]
        ]
    [reference] = [d for d in digits if str(d.digit) == number[0]]
    return [str(d.digit) for d in digits if d is not reference and lies(d, reference, text)]


def lies(digit: Digit, reference: Digit, text: str) -> bool:
    """Within 45 degrees of the asked direction."""
    dx, dy = digit.x - reference.x, digit.y - reference.y
    if "left" in text:
        return dx < 0 and abs(dy) < -dx
    if "right" in text:
        return dx > 0 and abs(dy) < dx
    if "above" in text:
        return dy < 0 and abs(dx) < -dy
    return dy > 0 and abs(dx) < dy


def test_examples_ask_every_kind_about_as_often_as_its_share() -> None:
    asked = [example(1, "test", index)[1].kind for index in range(1500)]
    for kind, share in KINDS.items():
        assert abs(asked.count(kind) / 1500 - share) < 0.05


def test_pixels_show_the_colour_of_each_digit() -> None:
    """A scene drawn over: the pixels of its digits move towards the palette's colours."""
    scene = next(s for s in scenes() if any(d.colour == "red" for d in s.digits))
    [red] = [d for d in scene.digits if d.colour == "red"]
    box = scene.pixels()[red.top : red.top + red.height, red.left : red.left + red.width]
    strongest = box.reshape(-1, 3)[box[..., 0].argmax()]
    assert strongest[0] > 180
    assert strongest[1] < 100


def test_labels_of_the_cells_name_the_digits_that_cover_them() -> None:
    scene = Scene((Digit(4, "blue", 16, 32, 32, 32, source=0),), SIDE, "train", 0)
    digit, colour = cell_labels(scene).reshape(2, 8, 8)
    assert (digit[1:3, 2:4] == 4).all()
    assert (colour[1:3, 2:4] == COLOURS.index("blue")).all()
    assert (digit == 4).sum() == 4
    assert (digit == NOTHING).sum() == 60


def test_any_text_tokenizes_and_words_of_questions_are_one_token(tokenizer: Any) -> None:
    text = "Zażółć gęślą jaźń 雪 🙂\n"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    for word in (*COLOURS, *"0123456789", " digit", "Which"):
        assert len(tokenizer(word).input_ids) == 1


def test_the_tokenizer_loads_from_its_folder(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415 - slow import

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    message = [
        {
            "role": "user",
            "content": [{"type": "image"}, {"type": "text", "text": "What colour is the 7?"}],
        }
    ]
    written = loaded.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert written == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What colour is the 7?"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert loaded(written).input_ids == tokenizer(written).input_ids


def test_a_block_supervises_the_answer_and_its_end_alone(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer)
    inputs, targets = encoder.block(Question("count", "Count the digits.", "4"))
    asked = encoder.question("Count the digits.")
    assert inputs[: len(asked)].tolist() == asked
    places = np.flatnonzero(targets != IGNORED)
    assert places.tolist() == [len(asked) - 1, len(asked)]
    assert tokenizer.decode(targets[places]) == "4<|im_end|>"


def test_every_question_fits_in_a_block(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer)
    for index in range(300):
        assert encoder.block(example(2, "train", index)[1])[0].shape == (BLOCK,)


def test_training_forwards_equal_the_stock_model(model: Any, tokenizer: Any) -> None:
    scene = compose(scene_rng(0, "train", 0), "train")
    asked = list(questions(scene, scene_rng(0, "train", 1)).values())
    encoder = Encoder(tokenizer)
    network = Network(model, tokenizer)
    pixels = torch.from_numpy(scene.pixels())[None]
    flat = patches(pixels)[0].view(64, 3, 1, 16, 16).expand(-1, -1, 2, -1, -1).reshape(64, -1)
    grid = torch.tensor([[1, 8, 8]])
    with torch.inference_mode():
        tokens = network.see(pixels)
        stock = model.model.visual(flat, grid_thw=grid).pooler_output
        torch.testing.assert_close(tokens[0], stock, atol=1e-5, rtol=1e-4)

        constants = layout(model, 8, 8, len(asked))
        blocks = torch.from_numpy(np.concatenate([encoder.block(q)[0] for q in asked]))
        parts = (
            network.embed(torch.tensor([encoder.opening])),
            tokens,
            network.embed(torch.tensor([encoder.vision_end])),
            network.embed(blocks[None]),
        )
        states = language_states(
            model, torch.cat(parts, dim=1), constants.cos, constants.sin, constants.bias
        )
        logits = model.lm_head(states)[0, -len(asked) * BLOCK :].view(len(asked), BLOCK, -1)
        for question, ours in zip(asked, logits, strict=True):
            prompt = encoder.question(question.text)
            image = [model.config.image_token_id] * 64
            ids = torch.tensor([encoder.opening + image + encoder.vision_end + prompt])
            theirs = model(
                input_ids=ids,
                pixel_values=flat,
                image_grid_thw=grid,
                mm_token_type_ids=(ids == model.config.image_token_id).int(),
            ).logits
            torch.testing.assert_close(ours[len(prompt) - 1], theirs[0, -1], atol=1e-5, rtol=1e-4)


def test_batches_depend_on_seed_and_step_alone(tokenizer: Any) -> None:
    shape = Shape(pictures=2, fewest=2, most=3, side=SIDE, questions=6)
    one, two = (Batches(shape, seed=5, steps=9, tokenizer=tokenizer)[7] for _ in range(2))
    assert one.keys() == {"pixels", "labels", "ids", "targets", "query", "length", "counting"}
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = Batches(shape, seed=6, steps=9, tokenizer=tokenizer)[7]
    assert not torch.equal(one["pixels"], other["pixels"])
    asked = [tokenizer.decode(row[row != 0]) for row in one["ids"].flatten(0, 1)]
    counts = [text.startswith(WORDINGS["count"]) for text in asked]
    assert one["counting"].flatten().tolist() == counts
    assert 0 < sum(counts) < len(counts)


def test_a_saved_run_continues_exactly(tmp_path: Path) -> None:
    def build() -> tuple[torch.nn.Linear, list[Any]]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 4)
        return layer, [
            torch.optim.Muon([layer.weight], lr=0.1),
            torch.optim.AdamW([layer.bias], lr=0.1),
        ]

    def step(layer: torch.nn.Linear, tools: list[Any]) -> None:
        for tool in tools:
            tool.zero_grad()
        layer(torch.arange(4.0)).square().sum().backward()
        for tool in tools:
            tool.step()

    layer, tools = build()
    step(layer, tools)
    save_state(tmp_path / "state.safetensors", {"layer": layer}, tools, {"done": {"read": 1}})
    step(layer, tools)

    resumed, resumed_tools = build()
    progress = load_state(tmp_path / "state.safetensors", {"layer": resumed})
    load_moments(tmp_path / "state.safetensors", resumed_tools)
    assert progress == {"done": {"read": 1}}
    step(resumed, resumed_tools)
    assert torch.equal(layer.weight, resumed.weight)
    assert torch.equal(layer.bias, resumed.bias)


def test_gates_keep_the_most_relevant_and_their_gradient_keeps_the_sum() -> None:
    torch.manual_seed(0)
    relevance = torch.randn(2, 3, 64, dtype=torch.float64, requires_grad=True)
    kept = torch.full((2, 3), 16.0)
    chosen = gates(relevance, kept, 0.5)
    hard = torch.zeros(2, 3, 64, dtype=torch.float64).scatter(-1, top(relevance.detach(), 16), 1.0)
    torch.testing.assert_close(chosen.detach(), hard)
    weights = torch.randn(2, 3, 64, dtype=torch.float64)
    (chosen * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert relevance.grad is not None
    assert relevance.grad.abs().min() > 0
    # More of every cell alike changes nothing: K stays K.
    torch.testing.assert_close(
        relevance.grad.sum(-1), torch.zeros(2, 3, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_gated_tokens_answer_like_tokens_that_are_really_dropped(
    model: Any, tokenizer: Any
) -> None:
    """What selection learns with is what is served, and dropped tokens get a gradient."""
    network = Network(model, tokenizer)
    shape = Shape(pictures=2, fewest=2, most=3, side=SIDE, questions=2)
    batch = Batches(shape, seed=5, steps=1, tokenizer=tokenizer)[0]
    torch.manual_seed(0)
    relevance = torch.rand(2, 2, 64, requires_grad=True)
    chosen = gates(relevance, torch.full((2, 2), 9.0), 0.5)
    with torch.no_grad():
        tokens = network.see(batch["pixels"])
    loss, _ = network.gated_loss(tokens, batch["ids"], batch["targets"], chosen)
    one_of = torch.zeros(2, 2)
    one_of[1, 0] = 4.0
    weighted, _ = network.gated_loss(tokens, batch["ids"], batch["targets"], chosen, one_of)
    rows = (tokens[1:], batch["ids"][1:, :1], batch["targets"][1:, :1], chosen[1:, :1])
    torch.testing.assert_close(weighted, network.gated_loss(*rows)[0])
    loss.backward()  # type: ignore[no-untyped-call]
    assert relevance.grad is not None
    assert (relevance.grad != 0).all()
    with torch.no_grad():
        sequence, constants = network.sequences(tokens, batch["ids"])
        kept = top(relevance, 9).flatten(0, 1)
        place = torch.cat(
            (torch.arange(4).expand(4, -1), 4 + kept, torch.arange(68, 87).expand(4, -1)), dim=1
        )
        states = torch.stack(
            [
                model.model.language_model(
                    inputs_embeds=row[at][None],
                    position_ids=positions(8, 8, BLOCK)[:, None, at],
                ).last_hidden_state[0, -BLOCK:]
                for row, at in zip(sequence, place, strict=True)
            ]
        )
        logits = model.lm_head(states)
        targets = batch["targets"].flatten(0, 1)
        stock = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED
        )
        torch.testing.assert_close(loss.detach(), stock, atol=1e-5, rtol=1e-5)
        assert constants.cos.shape == (87, 32)


def positions(rows: int, columns: int, after: int) -> torch.Tensor:
    """M-RoPE positions int64 [3, S] of four tokens, a picture, one token, a block."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    start = np.tile(np.arange(4), (3, 1))
    picture = np.stack((np.zeros_like(row), row, column)) + 4
    end = np.tile(4 + max(rows, columns) + np.arange(1 + after), (3, 1))
    return torch.from_numpy(np.concatenate((start, picture, end), axis=1))


def test_a_checkpoint_loads_as_the_network_that_was_saved(
    model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path, model, tokenizer, build_relevance(128, 0))
    network, relevance, _ = load_network(tmp_path)
    assert relevance is not None
    pixels = torch.from_numpy(example(0, "test", 0)[0].pixels())[None]
    with torch.inference_mode():
        assert torch.equal(network.see(pixels), Network(model, tokenizer).see(pixels))


def test_evaluation_counts_every_question_once_for_each_selection(
    model: Any, tokenizer: Any
) -> None:
    rows = evaluate(
        Network(model, tokenizer),
        build_relevance(128, 0),
        Encoder(tokenizer),
        count=60,
        kept=[4],
        seed=0,
    )
    assert {(row["selection"], row["kept"]) for row in rows} == {
        ("all tokens", 64),
        ("relevance", 4),
        ("random", 4),
        ("salient", 4),
        ("mean query", 4),
    }
    for name in ("all tokens", "relevance"):
        counts = {r["kind"]: r["questions"] for r in rows if r["selection"] == name}
        assert counts.pop("all") == 60
        assert sum(int(str(count)) for count in counts.values()) == 60
