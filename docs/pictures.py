"""Run the tutorial's first commands where you stand, and copy the figures that its pages show into `docs/tutorial`.

`make docs-pictures` does it in an empty folder.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

DOCS = Path(__file__).parent
LAST = "lowdim-bench report"


def main() -> None:
    tutorial = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", tutorial, flags=re.DOTALL)
    for line in "".join(blocks).splitlines():
        if line.startswith("lowdim-bench"):
            subprocess.run(line.split(), check=True)
        if line.startswith(LAST):
            break
    for page in (DOCS / "index.md", DOCS / "tutorial.md"):
        for name in re.findall(r"\(tutorial/([^)]+)\)", page.read_text(encoding="utf-8")):
            shutil.copy(Path("figures") / name, DOCS / "tutorial" / name)


if __name__ == "__main__":
    main()
