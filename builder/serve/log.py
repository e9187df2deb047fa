"""What a server's log says about models that did not load."""

import re

_FAILED = re.compile(r"failed to load '(?P<model>[^']+)' version (?P<version>\d+): (?P<why>.+)")
_POLL = re.compile(r"Poll failed for model directory '(?P<model>[^']+)': (?P<why>.+)")
_SERVER = re.compile(r"^error: (?P<why>.+)")
_ERROR = re.compile(r"^E\d{4} [\d:.]+ \d+ (?:[\w./-]+:\d+\] )?(?P<why>.+)")
# A machine without a GPU: harmless.
_NOISE = ("NVML", "DCGM", "CUDA", "unable to create stream", "pinned", "Cuda", "GPU")


def load_failures(log: str) -> dict[str, str]:
    """Failing models of `log` and the server's own words for why, in the order of the log."""
    failures: dict[str, str] = {}
    for line in log.splitlines():
        if found := _FAILED.search(line) or _POLL.search(line):
            failures.setdefault(found["model"], _clean(found["why"]))
    return failures


def summarize(log: str) -> str:
    """One line for an error message: failing models, else the last errors of `log`."""
    if failures := load_failures(log):
        return "; ".join(f"model '{name}': {why}" for name, why in failures.items())
    lines = log.splitlines()
    errors = [_clean(found["why"]) for line in lines if (found := _ERROR.match(line))]
    errors = [why for why in errors if not why.startswith(_NOISE)]
    errors += [_clean(found["why"]) for line in lines if (found := _SERVER.match(line))]
    return "; ".join(errors[-3:]) or "its log names no error"


def _clean(text: str) -> str:
    # Triton's log writes a newline of a message as a backslash and an n.
    return " ".join(text.strip().strip('"').replace("\\n", " ").split()).rstrip(".;")
