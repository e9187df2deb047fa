"""`# builder: ignore RULE` in a config.

A comment with a line for itself is for the whole model, a comment after a field for the findings
of its line. RULE is an id, `family.*` or `*`; several are separated by commas or spaces. The
rules of the text itself (`proto.*`) cannot be ignored: without a config there is no verdict.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from builder.validate.findings import Finding
from builder.validate.textproto import Comment

_IGNORE = re.compile(r"builder:\s*ignore\s+(?P<rules>[\w.*-]+(?:[\s,]+[\w.*-]+)*)")


class Ignores:
    """The findings that a config's comments ask to leave out."""

    def __init__(self, comments: Iterable[Comment]) -> None:
        self._patterns: list[tuple[str, int]] = []
        for comment in comments:
            match = _IGNORE.match(comment.text)
            if match:
                line = 0 if comment.alone else comment.line
                self._patterns += [(p, line) for p in re.split(r"[\s,]+", match["rules"])]

    def cover(self, finding: Finding) -> bool:
        """Whether a comment asks to leave `finding` out."""
        if finding.rule.startswith("proto."):
            return False
        return any(
            line in (0, finding.line) and fnmatchcase(finding.rule, pattern)
            for pattern, line in self._patterns
        )
