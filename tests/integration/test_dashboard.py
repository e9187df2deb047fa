"""Grafana's dashboard asks for metrics that a real server exports."""

import json
import re
import urllib.request
from importlib.resources import files
from pathlib import Path
from typing import Any

from clients import GenerationOptions, Question, answer

DASHBOARD = Path(__file__).parents[2] / "docker" / "grafana" / "dashboards" / "triton.json"


def test_every_metric_of_the_dashboard_is_exported(
    arr_coc_server: Any, serve_repository: Any
) -> None:
    """Except a GPU's, which are none here (tests/unit/test_deployment_files.py)."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    wanted = {name for query in queries for name in re.findall(r"\b(?:nv|language)_\w+", query)}
    wanted = {name for name in wanted if not name.startswith("nv_gpu_")}
    assert len(wanted) > 12
    picture = (files("skimage") / "data" / "chelsea.png").read_bytes()
    question = Question(picture, "What?", GenerationOptions(max_tokens=4))
    # The option of docker-compose.yml.
    options = ["--metrics-config=summary_latencies=true"]
    with serve_repository(arr_coc_server.repository, args=options) as server:
        answer(server.grpc_url, question, timeout=60)
        with urllib.request.urlopen(server.metrics_url, timeout=10) as reply:
            text = reply.read().decode()
    exported = set(re.findall(r"^(\w+)", text, re.MULTILINE))
    assert wanted <= exported, wanted - exported
