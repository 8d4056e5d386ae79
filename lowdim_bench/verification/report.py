"""What a verification found: plain data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lowdim_bench.records import Count
from lowdim_bench.specs import Spec


class Finding(Spec):
    """One thing that is not as it must be."""

    what: str
    """Its name, such as "theta altered"."""
    where: str
    """A trial, a file or a tag."""
    detail: str

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.what}: {self.where}: {self.detail}"


class Checked(Spec):
    """One certificate that was recomputed."""

    trial: str
    k: int
    claimed_loss: float
    found_loss: float | None
    """None where it is not finite, or could not be computed. After a spot check: if the claim is as far off on the
    other parts."""
    parts: int = 1
    """Of the training set, of each of which a loss is claimed."""
    parts_looked_at: int = 1
    """On which the loss was worked out again."""
    exact: bool
    """Whether the two had to agree to the last bit, rather than within the stated tolerance."""
    correct: bool
    cpu_seconds: float
    """Processor time for making the point again and one pass over the training set."""
    audit_cpu_seconds: float
    """Processor time for measuring its degrees of freedom again."""
    training_seconds: float
    """Processor time of the trial with its preparation, its share of the pack's, as its result says; on the clock where an
    older version recorded nothing else."""

    @property
    def verifying_seconds(self) -> float:
        """Processor time of all that was recomputed."""
        return self.cpu_seconds + self.audit_cpu_seconds


class Precision(Spec):
    """Theta on a uniform grid over its range: the fewest bits a coordinate with which it still meets the target."""

    trial: str
    k: int
    bits_per_number: Count | None
    """None where not even 24 bits suffice."""
    bits: Count | None
    """Of all coordinates, and of the two ends of the range as float32."""
    loss: float | None


class Report(Spec):
    """The verification of one run."""

    run_id: str
    task: str
    method: str
    status: str
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]
    """What could not be checked here, and why."""
    checked: tuple[Checked, ...]
    precision: tuple[Precision, ...]
    sample: float = 1.0
    """The share of the training set on which each loss was worked out again. A spot check (less than 1) clears no run."""
    tolerance: float = Field(description="relative, for losses that need not agree to the last bit")
    loading_seconds: float
    """For reading the data and building the problem, once for all certificates of a task."""
    threads: int
    seconds: float
    """For all certificates, on so many threads."""
    records_seconds: float
    """For replaying the planner and estimating the thresholds again."""
    state: str
    time: str

    @property
    def correct(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def verdict(self) -> Literal["yes", "no"]:
        return "yes" if self.correct else "no"

    @property
    def share(self) -> float | None:
        """Processor time of a certificate, on average, of that of the cheapest training; None where there is nothing to
        compare."""
        cheapest = self.cheapest
        if cheapest is None or not cheapest.training_seconds:
            return None
        return self._verifying / len(self.checked) / cheapest.training_seconds

    @property
    def share_of_all(self) -> float | None:
        """Processor time of all certificates, of that of all trainings that they certify."""
        trained = sum(one.training_seconds for one in self.checked)
        return self._verifying / trained if trained else None

    @property
    def _verifying(self) -> float:
        return sum(one.verifying_seconds for one in self.checked)

    @property
    def cheapest(self) -> Checked | None:
        """The certificate of the cheapest training."""
        return min(self.checked, key=lambda one: one.training_seconds, default=None)
