"""Submissions: a folder with a submission.yaml that says which method, with which parameters, by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lowdim_bench.errors import UserError
from lowdim_bench.methods import MethodChoice, parse_choice
from lowdim_bench.specs import Spec, read_yaml

FILE = "submission.yaml"


class Submission(Spec):
    """What submission.yaml holds."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    description: str = ""
    authors: Annotated[tuple[str, ...], Field(min_length=1)]
    method: str
    parameters: dict[str, Any] = {}
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]


def load_submission(folder: Path) -> Submission:
    """The submission of a folder. Raises `UserError` where it is missing or not valid, or its method is."""
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{folder} holds no {FILE}; see submissions/template for one.")
    submission = Submission.from_data(read_yaml(path), str(path))
    MethodChoice(name=submission.method, parameters=submission.parameters).build()
    return submission


def choose_method(text: str) -> MethodChoice:
    """What -m asks for: NAME[,key=value...], or the folder of a submission (a path with a slash or a dot in front)."""
    if "/" in text.partition(",")[0] or text.startswith("."):
        submission = load_submission(Path(text))
        return MethodChoice(name=submission.method, parameters=submission.parameters)
    return parse_choice(text)
