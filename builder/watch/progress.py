"""Whether a model answers others: counters of Triton's metrics endpoint.

A canary waits its turn like every request. Where others are answered meanwhile, the model is slow
and not dead, and starting it again would only lose what is under way.
"""

import re
import urllib.request

_LINE = re.compile(r'^(?P<name>\w+)\{model="(?P<model>[^"]+)"[^}]*\} (?P<value>\S+)$', re.MULTILINE)
_TYPE = re.compile(r"^# TYPE (?P<name>\w+) counter$", re.MULTILINE)
_ANSWERED = "nv_inference_request_success"
_SECONDS = 2.0


class Progress:
    """The counters of one server."""

    def __init__(self, metrics_url: str) -> None:
        self._url = metrics_url

    def read(self) -> "dict[str, float]":
        """Model -> a number that grows as the model answers; empty where no metrics are served.

        Triton counts requests that were answered whole. Counters that a model adds itself (tokens
        that it generated, say) grow while a long answer runs.
        """
        try:
            with urllib.request.urlopen(self._url, timeout=_SECONDS) as page:  # noqa: S310 (ours)
                text = page.read().decode(errors="replace")
        except (OSError, ValueError):
            return {}
        counters = {found["name"] for found in _TYPE.finditer(text)}
        own = {name for name in counters if not name.startswith("nv_")} | {_ANSWERED}
        totals: dict[str, float] = {}
        for line in _LINE.finditer(text):
            if line["name"] in own and line["name"] in counters:
                totals[line["model"]] = totals.get(line["model"], 0.0) + float(line["value"])
        return totals
