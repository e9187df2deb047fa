"""The demo: build the trained digits checkpoint, serve it, ask what has one right answer.

Run by `make demo`. One held-out scene (nothing of it was in training) is asked every kind of
question that it can answer; beside each answer stands the right one. What the pipeline kept for
two of the questions is drawn side by side.
"""

import argparse
import io
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from builder.serve import TritonServer
from clients import Answer, GenerationOptions, Question, answer, heatmap
from examples.digits import questions
from examples.digits.scenes import Scene, compose, scene_rng

BUILDER = [sys.executable, "-m", "builder"]
SEED = 0
CORNERS = ("top left", "bottom right")
"""The heat maps are of these two questions about one scene."""
HEAT_KEPT = 6
"""Visual tokens kept in the heat maps: so few that the question decides which."""
SCALE = 3
"""The scenes have 128 pixels on a side."""


def pick_scene() -> tuple[Scene, list[questions.Question]]:
    """The first held-out scene with digits in both corners, and its questions."""
    index = 0
    while True:
        rng = scene_rng(SEED, "test", index)
        scene = compose(rng, "test", fewest=4)
        found = [questions.in_corner(scene, corner) for corner in CORNERS]
        asked = questions.questions(scene, rng)
        if all(found) and len(asked) == len(questions.KINDS):
            corner_questions = [
                questions.Question("corner", f"Which digit is at the {corner}?", str(digit.digit))
                for corner, digit in zip(CORNERS, found, strict=True)
                if digit is not None
            ]
            del asked["corner"]
            return scene, [*corner_questions, *asked.values()]
        index += 1


def encoded(scene: Scene) -> bytes:
    """The scene as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(scene.pixels()).save(buffer, "PNG")
    return buffer.getvalue()


def side_by_side(picture: bytes, maps: list[tuple[str, Answer]]) -> Image.Image:
    """The scene, and for each question what was kept of it, under a title."""
    with Image.open(io.BytesIO(picture)) as opened:
        large = opened.resize((opened.width * SCALE, opened.height * SCALE), Image.Resampling.BOX)
    buffer = io.BytesIO()
    large.save(buffer, "PNG")
    panels = [("held-out scene", large)]
    for text, said in maps:
        drawn = heatmap.draw(buffer.getvalue(), said.kept_indices, said.relevance_map)
        panels.append((f"{text} {said.text}", drawn))
    margin, title = 12, 28
    whole = Image.new(
        "RGB",
        (len(panels) * (large.width + margin) + margin, large.height + title + margin),
        "white",
    )
    pen = ImageDraw.Draw(whole)
    for number, (text, panel) in enumerate(panels):
        left = margin + number * (large.width + margin)
        pen.text((left, 6), text, fill="black", font=ImageFont.load_default(16))
        whole.paste(panel, (left, title))
    return whole


def main() -> None:
    """Build, serve, ask, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", default="specs/digits.yaml", help="of the digits checkpoint")
    parser.add_argument("--output", type=Path, default=Path("out/demo"))
    options = parser.parse_args()
    repository = options.output / "model_repository"
    subprocess.run([*BUILDER, "build", options.spec, "--output", str(repository)], check=True)
    scene, asked = pick_scene()
    picture = encoded(scene)
    photo = options.output / "scene.png"
    photo.write_bytes(picture)
    console = Console()
    with TritonServer(repository) as server:
        first = asked[0]
        print(f"\nbuilder ask {photo} {first.text!r}  (the right answer is {first.answer})\n")
        sys.stdout.flush()
        command = ["ask", str(photo), first.text, "--url", server.grpc_url]
        subprocess.run([*BUILDER, *command], check=True)
        table = Table(title=f"{photo}: every kind of question")
        for name in ("question", "right", "answered", ""):
            table.add_column(name)
        for question in asked:
            said = answer(server.grpc_url, Question(picture, question.text)).text.strip()
            verdict = "yes" if said == question.answer else "no"
            table.add_row(question.text, question.answer, said, verdict)
        few = GenerationOptions(visual_tokens=HEAT_KEPT)
        maps = [
            (question.text, answer(server.grpc_url, Question(picture, question.text, few)))
            for question in asked[: len(CORNERS)]
        ]
    console.print(table)
    heat = options.output / "heatmap.png"
    side_by_side(picture, maps).save(heat)
    console.print(f"what was kept for two of them: {heat}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
