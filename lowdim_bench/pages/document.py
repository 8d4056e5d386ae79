"""The page as HTML, from templates that escape everything: in a server beside MLflow, and as one file for a reader."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from lowdim_bench.pages.content import Content


def render_report(content: Content) -> str:
    """One self-contained HTML file: tables, figures with the library that draws them, environment, and how it is computed."""
    return _render(content, script=vega_script(), script_address=None)


def render_page(content: Content, script_address: str) -> str:
    """The page of a server, which takes the drawing library from an address of the same server."""
    return _render(content, script=None, script_address=script_address)


@functools.cache
def vega_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script that calls no other host."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def embedded_json(value: Any) -> str:
    """JSON that may stand within a script element: no character of it can end that element, or begin another."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _render(content: Content, *, script: str | None, script_address: str | None) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lowdim_bench.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("leaderboard.html").render(
        content=content,
        style=_text("style.css"),
        behaviour=_text("behaviour.js"),
        # The library is ours, and a closing tag within it would end the element that holds it.
        script=None if script is None else script.replace("</script", "<\\/script"),
        script_address=script_address,
        specifications=embedded_json(_specifications(content)),
        rules=_rules(),
    )


def _specifications(content: Content) -> Mapping[str, Any]:
    return {shown.name: shown.specification for shown in content.shown}


def _rules() -> list[str]:
    """How methods are compared, from the module that computes it: paragraphs and items of its docstring."""
    from lowdim_bench import statistics

    text = (statistics.__doc__ or "").split("Rules, each written down once, here:")[-1]
    return [" ".join(part.split()) for part in text.split("\n- ") if part.strip()]


def _text(name: str) -> str:
    return files("lowdim_bench.pages").joinpath("templates", name).read_text(encoding="utf-8")
