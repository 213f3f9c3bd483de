"""Our HTML pages, from the templates that come with the package."""

from __future__ import annotations

from typing import Any

__all__ = ["render_template"]


def render_template(name: str, /, *, package: str = "threecad.pages", **values: Any) -> str:
    """Return the page that ``templates/NAME`` of a package makes of the values, which are escaped.

    Args:
        name: The template; it may include those of ``threecad.pages``.
        package: Where its folder ``templates`` is.
        **values: What it names.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(each) for each in (package, "threecad.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)
