"""The health endpoint, and what is refused of clients' shared memory."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from builder.watch import health as module
from builder.watch.asker import _judge
from builder.watch.health import Health, HealthEndpoint
from builder.watch.progress import Progress
from builder.watch.shared_memory import restrict


def get(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if error.code == 503 else None


def test_probes_are_told_by_status(monkeypatch: pytest.MonkeyPatch) -> None:
    health = Health()
    endpoint = HealthEndpoint(health, "127.0.0.1", 0)
    try:
        assert get(endpoint.port, "/v2/health/ready") == (
            503,
            {"ready": False, "state": "starting"},
        )
        assert get(endpoint.port, "/v2/health/live") == (200, {"live": True})
        health.update("ready", ready=True, models={"m": {"state": "ok"}})
        status, values = get(endpoint.port, "/v2/health/ready")
        assert (status, values["models"]) == (200, {"m": {"state": "ok"}})
        assert get(endpoint.port, "/metrics")[0] == 404
        # Who should look again does not: neither ready nor live.
        monkeypatch.setattr(module, "_STALE_SECONDS", -1.0)
        assert get(endpoint.port, "/v2/health/ready")[0] == 503
        assert get(endpoint.port, "/v2/health/live")[0] == 503
        health.update("restarting", busy=True)
        assert get(endpoint.port, "/v2/health/live")[0] == 200
    finally:
        endpoint.close()


@pytest.mark.parametrize(
    ("sentence", "state"),
    [
        ("in ensemble 'a', Stub process 'm_0_0' is not healthy.", "dead"),
        ("Failed to obtain the health mutex.", "dead"),
        ("in ensemble 'a', Request timeout expired", "busy"),
        ("[request id: 1] Exceeds maximum queue size", "busy"),
        ("the language stage is full (16 requests wait); try again in about 3 s", "busy"),
        ("INVALID_ARGUMENT: PROMPT is empty", "refused"),
        ("CUDA failure 700", "refused"),
    ],
)
def test_a_refusal_for_now_is_no_death(sentence: str, state: str) -> None:
    assert _judge(sentence) == state


def test_metrics_that_nobody_serves_are_no_progress() -> None:
    assert Progress("http://127.0.0.1:9/metrics").read() == {}


def test_shared_memory_is_restricted_unless_something_is_said() -> None:
    first, second = restrict([]), restrict(["--http-port=1"])
    assert [option.partition("=")[0] for option in first] == [
        "--grpc-restricted-protocol",
        "--http-restricted-api",
    ]
    assert all("=shared-memory:shared-memory-key=" in option for option in first)
    assert first != second, "a key of its own each time"
    assert restrict(["--allow-client-shm=true"]) == []
    assert restrict(["--grpc-restricted-protocol=shared-memory,trace:k=v"]) == []
