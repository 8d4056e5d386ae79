"""`<!-- notebook: PATH -->` in a page becomes the notebook of that path, with the output that is stored in it.

The usual converters make pages that ask other hosts for scripts; a page of this site asks nobody for anything.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DOCS = Path(__file__).parents[1]
_MARK = re.compile(r"<!-- notebook: ([\w./-]+\.ipynb) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for each page."""
    return _MARK.sub(lambda found: rendered(json.loads((_DOCS / found[1]).read_text(encoding="utf-8"))), markdown)


def rendered(notebook: Mapping[str, Any]) -> str:
    """A notebook (nbformat 4) as Markdown."""
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts.append(f"```python\n{source}\n```")
            parts += [_output(output["data"]) for output in cell["outputs"] if "data" in output]
    return "\n\n".join(parts) + "\n"


def _output(data: Mapping[str, Any]) -> str:
    if "image/svg+xml" in data:
        picture = base64.b64encode("".join(data["image/svg+xml"]).encode()).decode()
        return f'<img alt="What the cell above draws" src="data:image/svg+xml;base64,{picture}">'
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return "\n".join(line for line in table.splitlines() if line.strip())
    return f"```text\n{''.join(data['text/plain'])}\n```"
