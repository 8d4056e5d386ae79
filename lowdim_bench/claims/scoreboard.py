"""The scoreboard: what each claim came to, as it is recorded and read back."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Self

from lowdim_bench import __version__
from lowdim_bench.claims.base import Claim, Found, Scale
from lowdim_bench.claims.verdicts import Check, Count, Verdict, weakest
from lowdim_bench.errors import UserError
from lowdim_bench.specs import Spec
from lowdim_bench.tracking import StoredVerdict

log = logging.getLogger(__name__)


class Decided(Spec):
    """A claim with what was measured and decided."""

    number: Count
    name: str
    statement: str
    source: str
    expected: str
    provenance: str
    scale: Scale
    claim_digest: str
    """Of everything that decided the numbers."""
    checks: tuple[Check, ...]
    made_by: str
    """The version that measured it."""

    @classmethod
    def of(cls, claim: Claim, scale: Scale, found: Found) -> Self:
        """Decide a claim from what all its parts found."""
        return cls(
            number=claim.number,
            name=claim.name,
            statement=claim.statement,
            source=claim.source,
            expected=claim.expected,
            provenance=claim.provenance,
            scale=scale,
            claim_digest=claim.digest,
            checks=tuple(claim.checks(found)),
            made_by=f"lowdim-bench {__version__}",
        )

    def retold(self, claim: Claim) -> Self:
        """The same in the claim's present words, which are no part of its digest."""
        words = {name: getattr(claim, name) for name in ("statement", "source", "expected", "provenance")}
        return self.model_copy(update=words)

    @property
    def deciding(self) -> Check:
        """The weakest check."""
        return weakest(self.checks)

    @property
    def verdict(self) -> Verdict:
        """That of the weakest check."""
        return self.deciding.verdict

    @property
    def sentence(self) -> str:
        """In one sentence: the verdict, and which check has it."""
        return f"Claim {self.number}, {self.name}: {self.verdict}. {self.deciding.what}: {self.deciding.measured}."


class Scoreboard(Spec):
    """Claims by number, as they are written down for documents."""

    rows: tuple[Decided, ...]


def read(stored: Sequence[StoredVerdict]) -> dict[str, Decided]:
    """Verdicts by digest. What cannot be read is left out, with a warning that names the run."""
    found: dict[str, Decided] = {}
    for one in stored:
        try:
            decided = Decided.from_json(one.content, f"verdict.json of run {one.run_id}")
        except UserError as error:
            log.warning("Run %s is left out: %s", one.run_id, error)
            continue
        if decided.claim_digest == one.digest and decided.checks:
            found[one.digest] = decided
        else:
            log.warning("Run %s is left out: its verdict.json is not of digest %s", one.run_id, one.digest)
    return found


def newest(stored: Sequence[StoredVerdict]) -> list[Decided]:
    """The newest verdict of each claim and scale, by scale and number, whatever version it is of."""
    found = {(row.scale, row.number): row for row in read(stored).values()}
    return [found[key] for key in sorted(found)]


def tally(rows: Sequence[Decided]) -> Mapping[Verdict, int]:
    """How many claims have each verdict."""
    verdicts: tuple[Verdict, ...] = ("reproduced", "undecided", "contradicted")
    return {verdict: sum(row.verdict == verdict for row in rows) for verdict in verdicts}
