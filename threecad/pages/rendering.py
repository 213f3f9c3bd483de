"""Our HTML pages, from the templates that come with the package."""

from __future__ import annotations

from typing import Any

__all__ = ["render_template"]


def render_template(name: str, /, **values: Any) -> str:
    """Return the page that ``pages/templates/NAME`` makes of the values, which are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("threecad.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)
