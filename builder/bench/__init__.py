"""The local `perf_analyzer` process."""

from builder.bench.report import Measurement
from builder.bench.session import Plan, run, server_url

__all__ = ["Measurement", "Plan", "run", "server_url"]
