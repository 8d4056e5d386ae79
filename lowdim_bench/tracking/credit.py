"""Whose a sweep is: what is recorded of the submission that it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from lowdim_bench.errors import UserError
from lowdim_bench.tracking import keys


@dataclass(frozen=True)
class Credit:
    """What a submission says of itself. It is written when a sweep begins, and never again: who came first is named."""

    submission: str
    authors: tuple[str, ...]
    description: str
    expected_track: str
    tasks: tuple[str, ...]

    def tags(self) -> dict[str, str]:
        """As tags of a run."""
        return {
            keys.SUBMISSION: self.submission,
            keys.AUTHORS: json.dumps(self.authors, ensure_ascii=False),
            keys.DESCRIPTION: self.description,
            keys.EXPECTED_TRACK: self.expected_track,
            keys.SUBMISSION_TASKS: json.dumps(self.tasks),
        }

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Credit | None:
        """From the tags of a run; None where it was made from no submission. Raises `UserError` where they were altered."""
        if keys.SUBMISSION not in tags:
            return None
        try:
            authors, tasks = (json.loads(tags.get(name, "[]")) for name in (keys.AUTHORS, keys.SUBMISSION_TASKS))
        except ValueError as error:
            raise UserError(f"its tags of a submission are not what was written: {error}") from None
        if not all(
            isinstance(names, list) and all(isinstance(one, str) for one in names) for names in (authors, tasks)
        ):
            raise UserError("its tags of a submission are not what was written")
        return cls(
            submission=tags[keys.SUBMISSION],
            authors=tuple(authors),
            description=tags.get(keys.DESCRIPTION, ""),
            expected_track=tags.get(keys.EXPECTED_TRACK, ""),
            tasks=tuple(tasks),
        )
