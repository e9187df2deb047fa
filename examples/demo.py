"""The demo: build, serve, ask about a real photo, draw the heat map. Run by `make demo`."""

import argparse
import importlib.resources
import subprocess
import sys
from pathlib import Path

from builder.serve import TritonServer

QUESTION = "What is in the picture?"
BUILDER = [sys.executable, "-m", "builder"]


def main() -> None:
    """Build, serve, ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", default="specs/arr_coc.yaml")
    parser.add_argument("--output", type=Path, default=Path("out/demo"))
    parser.add_argument("--question", default=QUESTION)
    options = parser.parse_args()
    repository = options.output / "model_repository"
    heatmap = options.output / "heatmap.png"
    photo = Path(str(importlib.resources.files("skimage") / "data" / "chelsea.png"))
    subprocess.run([*BUILDER, "build", options.spec, "--output", str(repository)], check=True)
    with TritonServer(repository) as server:
        print(f"\nasking about {photo.name} (scikit-image): {options.question}\n", flush=True)
        command = ["ask", str(photo), options.question, "--url", server.grpc_url]
        subprocess.run([*BUILDER, *command, "--heatmap", str(heatmap)], check=True)
    print(f"\nheat map: {heatmap}")


if __name__ == "__main__":
    main()
