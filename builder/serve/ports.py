"""TCP ports for local servers."""

import random
import socket

from builder.errors import ServerError

# Below Linux' ephemeral range (32768 on): no outgoing connection takes one in the meantime.
_FIRST, _LAST = 18000, 32000


def is_free(port: int) -> bool:
    """Whether nothing listens on `port` on this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 (any address it is taken on counts)
        except OSError:
            return False
        return True


def find_free(count: int) -> list[int]:
    """`count` different free ports, drawn at random so that parallel servers rarely collide."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(_FIRST, _LAST), 1000):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise ServerError(f"no {count} free TCP ports between {_FIRST} and {_LAST}")


def check_free(port: int, option: str) -> None:
    """Raise `ServerError` when `port`, asked for with `option`, is taken."""
    if not 0 < port < 65536:
        raise ServerError(f"{option} {port} is not a TCP port: choose one from 1 to 65535")
    if not is_free(port):
        raise ServerError(
            f"port {port} is taken: stop what listens on it or choose another {option}"
        )
