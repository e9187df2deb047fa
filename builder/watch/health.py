"""Health over HTTP, for probes: 200 where every model answers, 503 and why where one can't.

    GET /v2/health/ready   ready for requests
    GET /v2/health/live    the watching process itself is alive

The paths are Triton's: a probe of it becomes one of ours by its port.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_STALE_SECONDS = 60.0


class Health:
    """What is known of a server; written by the keeper, read by probes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready = False
        self._values: dict[str, Any] = {"state": "starting"}
        self._beat = time.monotonic()
        self._busy = True

    def update(self, state: str, *, ready: bool = False, busy: bool = False, **more: Any) -> None:
        """Note a state.

        Args:
            state: One word.
            ready: Whether requests are answered.
            busy: The keeper is about to do what may take long, a start for instance.
            more: Shown beside it.
        """
        with self._lock:
            self._ready = ready
            self._busy = busy
            self._values = {"state": state, **more}
            self._beat = time.monotonic()

    def read(self) -> "tuple[bool, dict[str, Any]]":
        """Whether requests are answered, and all that is known."""
        with self._lock:
            stale = not self._busy and time.monotonic() - self._beat > _STALE_SECONDS
            values = {"ready": self._ready and not stale, **self._values}
            return values["ready"], values

    def live(self) -> bool:
        """Whether the keeper still looks."""
        with self._lock:
            return self._busy or time.monotonic() - self._beat <= _STALE_SECONDS


class HealthEndpoint:
    """An HTTP server in threads of its own."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        """Start to listen.

        Args:
            health: What is told.
            host: Address to listen on.
            port: 0: a free one.

        Raises:
            OSError: the port can't be listened on.
        """
        self._server = ThreadingHTTPServer((host, port), _handler(health))
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


def _handler(health: Health) -> "type[BaseHTTPRequestHandler]":
    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0  # of a client that sends nothing

        def do_GET(self) -> None:
            if self.path == "/v2/health/ready":
                good, values = health.read()
            elif self.path == "/v2/health/live":
                good = health.live()
                values = {"live": good}
            else:
                self.send_error(404)
                return
            body = json.dumps(values).encode() + b"\n"
            self.send_response(200 if good else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Probes are no news."""

    return Handler
