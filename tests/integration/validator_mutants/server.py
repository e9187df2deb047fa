"""The real server's verdict on models, one by one."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from builder.serve.layout import assemble
from builder.serve.server import TritonServer

from . import null_backend

DIED = "the server died"
_PATIENCE = 15.0
"""Seconds for a load, which takes one or two."""


class Judge:
    """A server that loads and unloads models of a repository by name."""

    def __init__(self, repository: Path, folder: Path, *, rate_limit: bool = False) -> None:
        layout = assemble(folder)
        null_backend.build(layout.backends)
        args = [
            f"--backend-directory={layout.backends}",
            "--cache-config=local,size=1048576",
            "--backend-config=python,shm-default-byte-size=1048576",
        ]
        if rate_limit:
            args.append("--rate-limit=execution_count")
        self._repository = repository
        self._args = args
        self._server = self._new()
        self.deaths: list[str] = []

    def _new(self) -> TritonServer:
        return TritonServer(self._repository, explicit=True, args=self._args)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.stop()

    def judge(self, names: list[str]) -> list[tuple[bool, str]]:
        """`accepts` of each."""
        return [self.accepts(name) for name in names]

    def accepts(self, name: str, *, again: bool = False) -> tuple[bool, str]:
        """Whether the server loads a model, and what it says; the model is unloaded again.

        A config that kills two servers counts as refused; a new server goes on.
        """
        mark = self._server.log_end
        try:
            self._post(f"{name}/load")
        except urllib.error.HTTPError as error:
            return False, f"{json.loads(error.read())['error']}\n{self._server.log_text(mark)}"
        except (ConnectionError, TimeoutError, urllib.error.URLError):
            says = self._bury(name, "at load", mark)
            # What came before may have left a server that any load would have ended.
            return (False, says) if again else self.accepts(name, again=True)
        try:
            self._post(f"{name}/unload", {"parameters": {"unload_dependents": True}})
        except urllib.error.HTTPError:
            pass
        except (ConnectionError, TimeoutError, urllib.error.URLError):
            self._bury(name, "at unload", mark)
        return True, ""

    def _bury(self, name: str, when: str, mark: int) -> str:
        log = self._server.log_text(mark)
        self.deaths.append(f"{name} {when}")
        self._server.stop()
        self._server = self._new()
        self._server.start()
        return f"{DIED} {when}\n{log[-1500:]}"

    def _post(self, path: str, content: dict[str, object] | None = None) -> None:
        request = urllib.request.Request(
            f"http://{self._server.http_url}/v2/repository/models/{path}",
            data=json.dumps(content or {}).encode(),
            method="POST",
        )
        # A Python model without its file hangs until the server is ended.
        urllib.request.urlopen(request, timeout=_PATIENCE).read()
