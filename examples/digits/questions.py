"""Questions about a scene whose answers are true and unambiguous by construction."""

from dataclasses import dataclass

import numpy as np

from .handwriting import Split
from .scenes import Digit, Scene, compose, scene_rng

# Share of each kind among the questions.
KINDS: dict[str, float] = {
    "corner": 0.20,
    "colour_to_digit": 0.20,
    "digit_to_colour": 0.20,
    "count": 0.14,
    "largest": 0.13,
    "beside": 0.13,
}

WORDINGS: dict[str, tuple[str, ...]] = {
    "corner": (
        "Which digit is at the {corner}?",
        "What digit is in the {corner} corner?",
        "Read the digit at the {corner}.",
        "Look at the {corner}: which digit is there?",
    ),
    "colour_to_digit": (
        "Which digit is {colour}?",
        "What is the {colour} digit?",
        "Read the digit written in {colour}.",
        "Which number is drawn in {colour}?",
    ),
    "digit_to_colour": (
        "What colour is the {digit}?",
        "Which colour does the {digit} have?",
        "Name the colour of the {digit}.",
        "The {digit} is written in which colour?",
    ),
    "count": (
        "How many digits are there?",
        "How many digits do you see?",
        "Count the digits.",
        "What is the number of digits in the picture?",
    ),
    "largest": (
        "Which digit is the largest?",
        "What is the biggest digit?",
        "Read the largest digit.",
        "Which of the digits is the biggest one?",
    ),
    "beside": (
        "What is {side} the {digit}?",
        "Which digit is {side} the {digit}?",
        "Read the digit {side} the {digit}.",
        "Look {side} the {digit}: which digit is there?",
    ),
}
CORNERS = ("top left", "top right", "bottom left", "bottom right")
# words -> direction in which the answer lies, (x, y), y down
SIDES: dict[str, tuple[int, int]] = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}
# The largest digit is at least this many times as high as the second.
LARGER = 1.2
# No centre is nearer to a border between corners than this, pixels.
CORNER_MARGIN = 5
# Beside: off the axis by less than half of the distance along it; others by more than all of it.
ASIDE, APART = 0.5, 1.0


@dataclass(frozen=True)
class Question:
    """A question with its one right answer; `kind` is a key of KINDS."""

    kind: str
    text: str
    answer: str


def questions(scene: Scene, rng: np.random.Generator) -> dict[str, Question]:
    """One question of every kind that this scene can answer, in a random wording."""
    asked: dict[str, Question] = {}
    for kind, (words, answer) in _facts(scene, rng).items():
        wordings = WORDINGS[kind]
        text = wordings[rng.integers(len(wordings))].format(**words)
        asked[kind] = Question(kind, text, answer)
    return asked


def example(seed: int, split: Split, index: int) -> tuple[Scene, Question]:
    """Scene and question number `index`: the kind is drawn first, by its share."""
    rng = scene_rng(seed, split, index)
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    while True:
        scene = compose(rng, split)
        asked = questions(scene, rng)
        if kind in asked:
            return scene, asked[kind]


def several(scene: Scene, rng: np.random.Generator, count: int) -> list[Question]:
    """`count` questions about one scene, of every kind that applies before any kind comes twice."""
    asked: list[Question] = []
    while len(asked) < count:
        more = list(questions(scene, rng).values())
        asked += [more[place] for place in rng.permutation(len(more))]
    return asked[:count]


def _facts(scene: Scene, rng: np.random.Generator) -> dict[str, tuple[dict[str, str], str]]:
    """For each kind that applies: the words of the question and the answer."""
    digits = scene.digits
    facts: dict[str, tuple[dict[str, str], str]] = {}
    corners = [(name, found) for name in CORNERS if (found := in_corner(scene, name))]
    if corners:
        name, found = corners[rng.integers(len(corners))]
        facts["corner"] = ({"corner": name}, str(found.digit))
    chosen = digits[rng.integers(len(digits))]
    facts["colour_to_digit"] = ({"colour": chosen.colour}, str(chosen.digit))
    seen = [digit.digit for digit in digits]
    single = [digit for digit in digits if seen.count(digit.digit) == 1]
    if single:
        chosen = single[rng.integers(len(single))]
        facts["digit_to_colour"] = ({"digit": str(chosen.digit)}, chosen.colour)
    facts["count"] = ({}, str(len(digits)))
    first, second, *_ = sorted(digits, key=lambda digit: -digit.height)
    if first.height >= LARGER * second.height:
        facts["largest"] = ({}, str(first.digit))
    pairs = [
        (side, digit, found)
        for digit in single
        for side in SIDES
        if (found := beside(scene, digit, side))
    ]
    if pairs:
        side, digit, found = pairs[rng.integers(len(pairs))]
        facts["beside"] = ({"side": side, "digit": str(digit.digit)}, str(found.digit))
    return facts


def in_corner(scene: Scene, corner: str) -> Digit | None:
    """The only digit centred in a corner quarter, or None; near the border is ambiguous."""
    down = 1 if corner.startswith("bottom") else -1
    along = 1 if corner.endswith("right") else -1
    half = scene.side / 2
    depths = [(min((d.y - half) * down, (d.x - half) * along), d) for d in scene.digits]
    near = [(depth, digit) for depth, digit in depths if depth > -CORNER_MARGIN]
    if len(near) == 1 and near[0][0] > CORNER_MARGIN:
        return near[0][1]
    return None


def beside(scene: Scene, digit: Digit, side: str) -> Digit | None:
    """The only digit that lies to a side of `digit`, or None; diagonals are ambiguous."""
    x, y = SIDES[side]
    found = []
    for other in scene.digits:
        ahead = (other.x - digit.x) * x + (other.y - digit.y) * y
        across = abs((other.x - digit.x) * y) + abs((other.y - digit.y) * x)
        if other is digit or ahead <= 0 or across >= APART * ahead:
            continue
        if across > ASIDE * ahead:
            return None
        found.append(other)
    return found[0] if len(found) == 1 else None
