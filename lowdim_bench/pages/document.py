"""The page as HTML, from templates that escape everything: in a server beside MLflow, and as one file for a reader."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
from importlib.resources import files
from typing import Any

from lowdim_bench.pages.content import Content


def render_report(content: Content) -> str:
    """One self-contained HTML file: tables, figures with the library that draws them, environment, and how it is computed."""
    figures = {shown.name: shown.specification for shown in content.shown}
    data = _packed({"figure": figures, "comparisons": content.comparisons})
    # A browser that is told so asks no other host, whatever the file says.
    policy = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"
    # The library is ours, and a closing tag within it would end the element that holds it.
    script = vega_script().replace("</script", "<\\/script")
    return _template().render(content=content, **_parts(), address=None, data=data, script=script, policy=policy)


def render_page(content: Content, address: str) -> str:
    """The page of a server, which takes the drawing library and each figure from below an address of the same server."""
    return _template().render(content=content, **_parts(), address=address, data="", script=None, policy=None)


def page_policy() -> str:
    """The Content-Security-Policy of the page: it runs its own script and the library, and asks no other host.

    Vega turns the expressions of a figure into functions, hence 'unsafe-eval', and styles its menu, hence 'unsafe-inline'.
    """
    digest = base64.b64encode(hashlib.sha256(_text("behaviour.js").encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'unsafe-eval' 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: "
        "'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    )


@functools.cache
def vega_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script that calls no other host."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _packed(value: Any) -> str:
    """Data as text that no element can be ended by: JSON, compressed, since figures repeat themselves; in base64."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lowdim_bench.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("leaderboard.html")


def _parts() -> dict[str, Any]:
    return {"style": _text("style.css"), "behaviour": _text("behaviour.js"), "rules": _rules()}


def _rules() -> list[str]:
    """How methods are compared, from the module that computes it: paragraphs and items of its docstring."""
    from lowdim_bench import statistics

    text = (statistics.__doc__ or "").split("Rules, each written down once, here:")[-1]
    return [" ".join(part.split()) for part in text.split("\n- ") if part.strip()]


@functools.cache
def _text(name: str) -> str:
    return files("lowdim_bench.pages").joinpath("templates", name).read_text(encoding="utf-8")
