"""Rendering the templates; a variable that is not set is an error, never nothing."""

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import text_encoding
from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from builder.errors import RenderError
from builder.render.model_config import ModelConfig
from builder.render.proto import check_rendered
from builder.spec.releases import DEFAULT_RELEASE

_PLACES = (
    Path(__file__).parents[1] / "_templates",  # in a wheel
    Path(__file__).parents[2] / "templates",  # in a checkout
)


def _quoted(value: str) -> str:
    """A protobuf text-format string literal."""
    return f'"{text_encoding.CEscape(value.encode(), as_utf8=True)}"'


@cache
def _environment(*, autoescape: bool = False) -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        loader=FileSystemLoader([str(place) for place in _PLACES]),
        undefined=StrictUndefined,
        autoescape=autoescape,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = _quoted
    environment.globals["default_release"] = DEFAULT_RELEASE
    return environment


def _render(environment: SandboxedEnvironment, name: str, values: dict[str, Any]) -> str:
    try:
        return environment.get_template(name).render(**values)
    except TemplateError as error:
        raise RenderError(f"template {name}: {error}") from error


def render_template(name: str, /, **values: Any) -> str:
    """Render a template file as it is: protobuf text, YAML, Markdown.

    Raises:
        RenderError: the template is missing, broken, or uses a variable that is not set.
    """
    return _render(_environment(), name, values)


def render_page(name: str, /, **values: Any) -> str:
    """Render a template of an HTML page; every value is escaped.

    Raises:
        RenderError: the template is missing, broken, or uses a variable that is not set.
    """
    return _render(_environment(autoescape=True), name, values)


def render_config(config: ModelConfig, origin: str) -> str:
    """The `config.pbtxt` of a model, parsed back and compared.

    Args:
        config: The model.
        origin: Name of the spec file, for the comment at the top.
    """
    text = render_template(f"config/{config.backend}.pbtxt.j2", config=config, origin=origin)
    text = text.strip() + "\n"
    check_rendered(config, text)
    return text
