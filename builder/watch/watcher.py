"""Finds out whether every model of a running server answers."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from builder.watch.asker import Asker
from builder.watch.canary import CanaryError, derive_canary, read_canary
from builder.watch.progress import Progress
from builder.watch.stubs import Stubs

_REFRESH_SECONDS = 5.0
_PROGRESS_SECONDS = 2.0
_RPC_SECONDS = 2.0
_UNSIZED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


@dataclass(frozen=True)
class WatchSettings:
    """How a server is watched.

    Attributes:
        interval: Seconds between two canaries of a model.
        deadline: Seconds that a canary may take while its model answers nobody else either.
        first_deadline: The same for the first canary after a load: a model may compile then.
        metadata: gRPC headers of canaries, a key for instance.
    """

    interval: float = 10.0
    deadline: float = 20.0
    first_deadline: float = 120.0
    metadata: "tuple[tuple[str, str], ...]" = ()


@dataclass(frozen=True)
class Fault:
    """Why a server has to be started again."""

    models: "tuple[str, ...]"
    why: str

    def __str__(self) -> str:
        names = ", ".join(f"'{name}'" for name in self.models)
        return f"{names}: {self.why}" if names else self.why


@dataclass
class _Watched:
    asker: Asker
    steps: "tuple[str, ...]"
    note: str = ""
    progress: float = -1.0
    progress_at: float = field(default_factory=time.monotonic)


class Watcher:
    """Watches one server process; made anew for each."""

    def __init__(
        self,
        pid: int,
        grpc_url: str,
        metrics_url: str,
        repository: "Path | None",
        settings: WatchSettings,
        refusing: "dict[str, bool]",
    ) -> None:
        """Start asking every model that no ensemble asks.

        Args:
            pid: The server's process.
            grpc_url: Its gRPC endpoint, HOST:PORT.
            metrics_url: Its metrics.
            repository: Folder with the models, for their `canary.json`; None: it lies elsewhere.
            settings: How often, how long.
            refusing: Model -> whether its first canary ever was refused; kept over restarts. A
                canary that never was answered says nothing by being refused again.
        """
        self._stubs = Stubs(pid)
        self._channel = grpc.insecure_channel(grpc_url, options=_UNSIZED)
        self._service = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._metrics = Progress(metrics_url)
        self._repository = repository
        self._settings = settings
        self._refusing = refusing
        self._watched: dict[str, _Watched] = {}
        self._refreshed = self._measured = float("-inf")
        self._known = False

    def close(self) -> None:
        """Ask no more."""
        for watched in self._watched.values():
            watched.asker.stop()
        self._channel.close()

    def look(self) -> "Fault | None":
        """What is wrong now; call it about twice a second."""
        dead = self._stubs.dead()
        if dead:
            return Fault(tuple(dead), "its Python stub has died")
        now = time.monotonic()
        if now - self._refreshed > _REFRESH_SECONDS:
            self._refreshed = now
            self._refresh()
        if now - self._measured > _PROGRESS_SECONDS:
            self._measured = now
            self._measure(now)
        for name, watched in self._watched.items():
            why = self._fault(name, watched, now)
            if why:
                return Fault((name,), why)
        return None

    def ready(self) -> bool:
        """Whether every model has answered its last canary, or answers others while it waits."""
        return self._known and all(self._answers(watched) for watched in self._watched.values())

    def report(self) -> "dict[str, dict[str, Any]]":
        """Model -> state (`starting`, `ok`, `busy`, `refused`, `dead`), seconds, why."""
        return {name: self._describe(watched) for name, watched in sorted(self._watched.items())}

    def _answers(self, watched: _Watched) -> bool:
        last = watched.asker.last
        return last is not None and (watched.asker.failures == 0 or self._expected(watched))

    def _expected(self, watched: _Watched) -> bool:
        last = watched.asker.last
        refusing = self._refusing.get(watched.asker.model, False)
        return last is not None and last.state == "refused" and refusing

    def _describe(self, watched: _Watched) -> "dict[str, Any]":
        last, since = watched.asker.last, watched.asker.waiting_since
        found: dict[str, Any] = {"state": "starting" if last is None else last.state}
        if last is not None:
            found |= {"seconds": round(last.seconds, 3), "asked": watched.asker.asked}
        if since is not None:
            found["waiting_seconds"] = round(time.monotonic() - since, 1)
        if why := (last.why if last is not None and last.why else watched.note):
            found["why"] = why
        return found

    def _fault(self, name: str, watched: _Watched, now: float) -> str:
        asker = watched.asker
        last, since = asker.last, asker.waiting_since
        if last is not None:
            self._refusing.setdefault(name, last.state == "refused")
            if asker.failures >= 2 and not self._expected(watched):
                dead = last.state == "dead"
                return last.why if dead else f"it refuses what it has answered: {last.why}"
        if since is None:
            return ""
        # Of a first canary: since it was sent. Others' answers are a sign of life.
        silent = now - max(since, watched.progress_at)
        allowed = self._settings.deadline if last is not None else self._settings.first_deadline
        if silent > allowed:
            return f"no answer to its canary for {now - since:.0f} s, nor to anybody else"
        return ""

    def _measure(self, now: float) -> None:
        """Note which of the models with a waiting canary have answered others."""
        waiting = [w for w in self._watched.values() if w.asker.waiting_since is not None]
        if not waiting:
            return
        totals = self._metrics.read()
        for watched in waiting:
            names = (watched.asker.model, *watched.steps)
            total = sum(totals.get(name, 0.0) for name in names)
            if watched.progress not in (-1.0, total):
                watched.progress_at = now
            watched.progress = total

    def _refresh(self) -> None:
        """Follow what is loaded and unloaded."""
        try:
            index = self._service.RepositoryIndex(
                service_pb2.RepositoryIndexRequest(ready=True),
                timeout=_RPC_SECONDS,
                metadata=self._settings.metadata,
            )
            names = {model.name for model in index.models}
            configs = {name: self._config(name) for name in names}
        except grpc.RpcError:
            return  # a server that does not answer at all is found by its canaries
        steps = {
            name: tuple(step.model_name for step in config.ensemble_scheduling.step)
            for name, config in configs.items()
        }
        inner = {step for several in steps.values() for step in several}
        for name in set(self._watched) - (names - inner):
            self._watched.pop(name).asker.stop()
        for name in (names - inner) - set(self._watched):
            self._watched[name] = self._watch(configs[name], steps[name])
        self._known = True

    def _config(self, name: str) -> "model_config_pb2.ModelConfig":
        request = service_pb2.ModelConfigRequest(name=name)
        metadata = self._settings.metadata
        return self._service.ModelConfig(request, timeout=_RPC_SECONDS, metadata=metadata).config

    def _watch(self, config: "model_config_pb2.ModelConfig", steps: "tuple[str, ...]") -> _Watched:
        request, note = None, ""
        try:
            if self._repository is not None:
                request = read_canary(self._repository / config.name, config.name)
        except CanaryError as error:
            note = str(error)
        asker = Asker(
            self._service,
            request if request is not None else derive_canary(config),
            self._settings.interval,
            decoupled=config.model_transaction_policy.decoupled,
            metadata=self._settings.metadata,
        )
        return _Watched(asker, steps, note)
