"""The report of a build: what was made of what, how exact it is, how large, how long it took."""

from builder.report.facts import Facts, read_facts
from builder.report.times import StepTimes
from builder.report.write import check_folder, report_folder, write_report

__all__ = [
    "Facts",
    "StepTimes",
    "check_folder",
    "read_facts",
    "report_folder",
    "write_report",
]
