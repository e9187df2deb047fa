"""`config.pbtxt` read with the line of every field.

The message is built by `google.protobuf.text_format`, so that the verdict on the syntax is the
library's. It keeps no positions and stops at the first mistake; the `_Indexer` walks the same
text along the message's descriptor to give every field its line and to find all unknown fields,
wrong enum values and repetitions at once. It has no recursion: depth costs memory, not stack.
"""

import difflib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tritonclient.grpc.model_config_pb2 import ModelConfig

from builder.releases import table
from builder.validate.target import Target

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f\v]+)
    |(?P<comment>\#[^\n]*)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[0-9.][A-Za-z0-9_.+-]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<symbol>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"""\\(?:[abfnrtv\\?'"]|[0-7]{1,3}|[xX][0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})"""
)
_BEYOND_THE_LIBRARY = frozenset({"newer-field", "escape", "number"})
"""Mistakes that Triton's C++ parser finds and the Python library does not."""
_OPEN = {"{": "}", "<": ">", "[": "]"}
_CLOSE = frozenset(_OPEN.values())
_END = ""


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class SyntaxProblem:
    """A mistake in the text: its kind (the last part of a rule's id), path, line and words."""

    kind: str
    field: str
    line: int
    message: str
    mend: str


@dataclass(slots=True)
class Comment:
    """A comment: its line, its text without `#`, and whether it has its line for itself."""

    line: int
    text: str
    alone: bool


@dataclass(slots=True)
class ParsedConfig:
    """A read config. `message` is None where the text does not parse."""

    message: ModelConfig | None
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[SyntaxProblem] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)

    def line(self, path: str) -> int:
        """The line of `path`, else of the nearest field around it, else 1."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path.rpartition(".")[0] if not path.endswith("]") else path.rpartition("[")[0]
        return 1


def parse(data: bytes, target: Target) -> ParsedConfig:
    """Read the bytes of a `config.pbtxt`; never raises on their content."""
    text = data.decode("utf-8", errors="replace")
    indexer = _Indexer(text, target)
    indexer.run()
    strict = [problem for problem in indexer.problems if problem.kind in _BEYOND_THE_LIBRARY]
    parsed = ParsedConfig(None, indexer.lines, strict, indexer.comments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes, which `_Indexer` judges
            message = text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        parsed.problems = indexer.problems or [_syntax(error)]
        return parsed
    if not strict:
        parsed.message = message
    return parsed


def _syntax(error: text_format.ParseError) -> SyntaxProblem:
    words = re.sub(r"^\d+:\d+ : ", "", " ".join(str(error).split()))
    return SyntaxProblem(
        "syntax",
        "",
        error.GetLine() or 1,
        f"the text is not a model configuration: {words[:160]}",
        "correct the text format here",
    )


class _Frame(NamedTuple):
    descriptor: Descriptor
    path: str
    closer: str
    counts: dict[str, int]
    map_field: str
    """Path of the map without index where this frame is a map entry, else empty."""
    start: int
    """How many paths had a line when the frame was opened."""


class _Indexer:
    def __init__(self, text: str, target: Target) -> None:
        self.lines: dict[str, int] = {}
        self.problems: list[SyntaxProblem] = []
        self.comments: list[Comment] = []
        self._target = target
        self._tokens = self._scan(text)
        self._token = next(self._tokens)
        self._keys: dict[str, str] = {}
        self._paths: list[str] = []
        self._stack: list[_Frame] = []
        self._lists: list[tuple[int, FieldDescriptor, str]] = []
        """Open lists of messages: depth of the stack, field, path without index."""

    def run(self) -> None:
        """Walk the text; stops where it is no text format at all."""
        self._stack.append(_Frame(ModelConfig.DESCRIPTOR, "", _END, {}, "", 0))
        going = True
        while self._stack and going:
            in_list = self._lists and self._lists[-1][0] == len(self._stack)
            going = self._walk_list() if in_list else self._walk_fields()

    def _walk_list(self) -> bool:
        """Inside `field: [ {...}, {...} ]`: open the next element or leave the list."""
        if self._token.text == ",":
            self._advance()
        elif self._token.text == "]":
            self._advance()
            self._lists.pop()
        elif self._token.text in ("{", "<"):
            self._open(*self._lists[-1][1:])
        else:
            return False
        return True

    def _walk_fields(self) -> bool:
        """Inside a message: read the next field, or leave the message."""
        token = self._token
        if token.text in (";", ","):
            self._advance()
        elif token.text == self._stack[-1].closer:
            self._close(self._stack.pop())
            if self._stack:
                self._advance()
        elif token.kind == "word":
            nested = self._field(self._stack[-1])
            if nested is None:
                return True
            if self._token.text == "[":
                self._advance()
                self._lists.append((len(self._stack), *nested))
            elif self._token.text in ("{", "<"):
                self._open(*nested)
            else:
                return False
        else:
            return False
        return True

    def _scan(self, text: str) -> Iterator[_Token]:
        line = 1
        line_used = 0
        for match in _TOKEN.finditer(text):
            kind = match.lastgroup or "symbol"
            found = match.group()
            if kind == "space":
                line += found.count("\n")
            elif kind == "comment":
                self.comments.append(Comment(line, found[1:].strip(), line_used != line))
            else:
                line_used = line
                yield _Token(kind, found, line)
        while True:
            yield _Token("end", _END, line)

    def _advance(self) -> _Token:
        token = self._token
        self._token = next(self._tokens)
        return token

    def _field(self, frame: _Frame) -> tuple[FieldDescriptor, str] | None:
        """Read a field's name and, where it is a scalar, its value.

        Returns the field and its path without index where its value is a message or a list of
        messages that comes next.
        """
        name = self._advance()
        known = frame.descriptor.fields_by_name.get(name.text)
        path = f"{frame.path}.{name.text}" if frame.path else name.text
        if known is None:
            self._unknown(frame.descriptor, name, path)
            self._skip_value()
            return None
        self._check_release(known, name, path)
        colon = self._token.text == ":"
        if colon:
            self._advance()
        if not known.is_repeated:
            self._check_once(frame, known, name, path)
        if known.message_type is not None:
            if not known.is_repeated:
                self._mark(path, name.line)
            return known, path
        if colon:
            self._scalars(frame, known, path)
        return None

    def _open(self, of: FieldDescriptor, base: str) -> None:
        frame = self._stack[-1]
        opener = self._advance()
        path = base
        if of.is_repeated:
            index = frame.counts.get(of.name, 0)
            frame.counts[of.name] = index + 1
            path = f"{base}[{index}]"
        assert of.message_type is not None
        start = len(self._paths)
        self._mark(path, opener.line)
        map_field = base if of.message_type.GetOptions().map_entry else ""
        self._stack.append(_Frame(of.message_type, path, _OPEN[opener.text], {}, map_field, start))

    def _close(self, frame: _Frame) -> None:
        if frame.map_field:
            alias = f'{frame.map_field}["{self._keys.pop(frame.path, "")}"]'
            for path in self._paths[frame.start :]:
                inner = path[len(frame.path) :].removeprefix(".value")
                self.lines.setdefault(alias + inner, self.lines[path])

    def _mark(self, path: str, line: int) -> None:
        if path not in self.lines:
            self.lines[path] = line
            self._paths.append(path)

    def _scalars(self, frame: _Frame, of: FieldDescriptor, path: str) -> None:
        if self._token.text != "[":
            self._scalar(frame, of, path)
            return
        self._advance()
        while self._token.text not in ("]", _END) and self._token.text not in _OPEN:
            if self._token.text == ",":
                self._advance()
            else:
                self._scalar(frame, of, path)
        if self._token.text == "]":
            self._advance()

    def _scalar(self, frame: _Frame, of: FieldDescriptor, path: str) -> None:
        if of.is_repeated:
            index = frame.counts.get(of.name, 0)
            frame.counts[of.name] = index + 1
            path = f"{path}[{index}]"
        self._mark(path, self._token.line)
        value = self._advance()
        if value.text == "+":
            self._report("number", path, value.line, "a number has no plus sign", "leave it out")
        if value.text in ("-", "+"):
            value = self._advance()
        texts = [value.text]
        while value.kind == "string" and self._token.kind == "string":
            texts.append(self._advance().text)
        if value.kind == "string" and any("\\" in _ESCAPE.sub("", text) for text in texts):
            self._report(
                "escape",
                path,
                value.line,
                f"the string of {path} has an escape that does not exist",
                "write a backslash as two",
            )
        if frame.map_field and of.name == "key":
            self._keys[frame.path] = "".join(
                t[1:-1] if value.kind == "string" else t for t in texts
            )
        if of.enum_type is not None and value.kind == "word":
            names = [known.name for known in of.enum_type.values]
            if value.text not in names:
                self._report(
                    "enum",
                    path,
                    value.line,
                    f"{value.text!r} is no value of {path}",
                    f"use one of {', '.join(_closest(value.text, names) or names)}",
                )

    def _skip_value(self) -> None:
        if self._token.text == ":":
            self._advance()
        if self._token.text in _OPEN:
            depth = 0
            while self._token.text != _END:
                text = self._advance().text
                depth += (text in _OPEN) - (text in _CLOSE)
                if depth == 0:
                    return
            return
        if self._token.text == "-":
            self._advance()
        first = self._advance()
        while first.kind == "string" and self._token.kind == "string":
            self._advance()

    def _unknown(self, descriptor: Descriptor, name: _Token, path: str) -> None:
        names = [
            known.name
            for known in descriptor.fields
            if self._target.knows(f"{descriptor.name}.{known.name}")
        ]
        near = _closest(name.text, names)
        self._report(
            "unknown-field",
            path,
            name.line,
            f"{descriptor.name} has no field {name.text!r}",
            f"write {near[0]!r}" if near else f"use one of {', '.join(sorted(names))}",
        )

    def _check_release(self, known: FieldDescriptor, name: _Token, path: str) -> None:
        assert known.containing_type is not None
        key = f"{known.containing_type.name}.{known.name}"
        if not self._target.knows(key):
            since = table().fields[key]
            self._report(
                "newer-field",
                path,
                name.line,
                f"Triton {self._target.release} does not know the field {name.text!r}, "
                f"which came with {since}, and refuses the whole config",
                f"remove it, or serve with Triton {since} or later",
            )

    def _check_once(self, frame: _Frame, known: FieldDescriptor, name: _Token, path: str) -> None:
        oneof = known.containing_oneof
        key = oneof.full_name if oneof else known.name
        if key in frame.counts:
            other = f" or another choice of {oneof.name}" if oneof else ""
            self._report(
                "repeated",
                path,
                name.line,
                f"{path}{other} is set more than once",
                "keep one of them",
            )
        frame.counts[key] = 1

    def _report(self, kind: str, path: str, line: int, message: str, mend: str) -> None:
        self.problems.append(SyntaxProblem(kind, path, line, message, mend))


def _closest(text: str, names: list[str]) -> list[str]:
    return difflib.get_close_matches(text, names, n=1, cutoff=0.6)
