"""A conversation as a prompt, by the checkpoint's own chat template.

As transformers renders it: Jinja in an immutable sandbox, with the same settings, filters and
functions (`transformers/utils/chat_template_utils.py`). Templates come with a checkpoint and see
what clients send; neither may run code here.
"""

import json
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

_LARGEST = 1 << 20
"""Characters of MESSAGES, at most."""


class ChatError(ValueError):
    """A conversation can't be used; the message is for the client."""


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; here it only shows them."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _json(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


class ChatTemplate:
    """A compiled chat template."""

    def __init__(self, template: str, special_tokens: dict[str, str]) -> None:
        """Compile.

        Args:
            template: Jinja source.
            special_tokens: Names that templates use, `bos_token` and the like.

        Raises:
            jinja2.TemplateSyntaxError: it is no template.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _json
        environment.globals.update(raise_exception=_raise, strftime_now=_now)
        self._template = environment.from_string(template)
        self._special = special_tokens

    def render(self, messages: str) -> str:
        """The prompt of a conversation, up to where the assistant speaks.

        Args:
            messages: A JSON list of objects with `role` and `content`.

        Raises:
            ChatError: no such list, or the template refuses it.
        """
        parsed = _parsed(messages)
        try:
            return self._template.render(
                messages=parsed,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._special,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, OverflowError) as error:
            raise ChatError(f"MESSAGES does not suit the chat template: {error}") from error


def _parsed(text: str) -> list[dict[str, Any]]:
    if len(text) > _LARGEST:
        raise ChatError(f"MESSAGES has {len(text)} characters; at most {_LARGEST} are allowed")
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ChatError(f"MESSAGES is not valid JSON: {error}") from error
    if not isinstance(messages, list) or not messages:
        raise ChatError('MESSAGES must be a JSON list like [{"role": "user", "content": "..."}]')
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ChatError(f"MESSAGES[{place}] must be an object with role and content")
        if "content" not in message:
            raise ChatError(f"MESSAGES[{place}] has no content")
    return messages
