"""What every method owes, as checks: of those that ship, of installed ones, and of submissions alike.

A method is held to it on one small problem. What it costs and what that problem is like are the caller's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from lowdim_bench import audit
from lowdim_bench.errors import LowdimError, MethodFailure
from lowdim_bench.methods import Method
from lowdim_bench.parametrizations import AffineSubspace, Parametrization
from lowdim_bench.preparation import Prepared, prepare_pack
from lowdim_bench.problems import Problem
from lowdim_bench.records import Audit, Spending, Trial
from lowdim_bench.specs import Task

OUTSIDE = 1e-4
"""How far a unit vector of a nested subspace may lie outside the larger one."""


class Broken(MethodFailure):
    """A clause of the contract does not hold; says what was found, and what to do."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.advice = advice


@dataclass(frozen=True)
class Finding:
    """What one check came to."""

    check: str
    passed: bool
    found: str
    advice: str = ""
    """What to do where it did not pass."""


@dataclass
class Subject:
    """A method on a problem. What it prepared is kept, for a preparation may be dear."""

    method: Method
    task: Task
    problem: Problem
    global_state: str = ""
    """What of the process a preparation changed, if anything."""
    _prepared: dict[tuple[tuple[int, int], ...], list[Prepared]] = field(default_factory=dict)

    def k_range(self) -> tuple[int, int]:
        """The smallest and largest k that the method says it can prepare."""
        return self.method.k_range(self.problem.blocks)

    def ks(self) -> list[int]:
        """Where it is looked at: both ends of its range, and between."""
        low, high = self.k_range()
        return sorted({low, math.isqrt(low * high), high})

    def prepare(self, *asked: tuple[int, int]) -> list[Prepared]:
        """What it prepares for trials (k, replicate) as one pack. Raises `Broken` where it fails."""
        if asked not in self._prepared:
            before = _global_state()
            trials = [Trial(k=k, replicate=replicate, round=0) for k, replicate in asked]
            self._prepared[asked] = prepare_pack(self.problem, self.task, self.method, trials)
            self.global_state = self.global_state or _difference(before, _global_state())
        for item in self._prepared[asked]:
            if item.diverged:
                raise Broken(
                    f"at k = {item.trial.k} the training that it asked for diverged", "Ask for fewer steps of it."
                )
            if item.failure:
                raise Broken(f"at k = {item.trial.k} {item.failure}", "Correct prepare(); the error is its own.")
        return self._prepared[asked]

    def alone(self, k: int, replicate: int = 0) -> Prepared:
        """What it prepares for one trial."""
        (item,) = self.prepare((k, replicate))
        return item

    def audit(self, item: Prepared) -> Audit:
        """The audit of what was prepared. Raises `AuditFailure`."""
        origin = self.problem.origin(item.trial.replicate, item.seed)
        return audit.measure(prepared(item), item.trial.k, origin, item.ledger.spent)

    def audits(self) -> list[tuple[Audit, Spending]]:
        """Audit and price at each k."""
        return [(self.audit(item), item.ledger.spent) for item in map(self.alone, self.ks())]


Clause = Callable[[Subject], str]
"""Says what it found; raises `MethodFailure` where the method does not keep it."""


def check(subject: Subject, clauses: Mapping[str, Clause] | None = None) -> Iterator[Finding]:
    """A finding for each clause, as they are checked. Whatever the method raises is a finding too."""
    for name, clause in (clauses or CLAUSES).items():
        yield attempt(name, lambda clause=clause: clause(subject))


def attempt(
    name: str, action: Callable[[], str], advice: str = "Have prepare() return what the audit admits."
) -> Finding:
    """The finding of one check. `advice`: what to do where it raises one of the project's own errors, but `Broken`."""
    try:
        return Finding(name, True, action())
    except Broken as broken:
        return Finding(name, False, str(broken), broken.advice)
    except LowdimError as error:
        return Finding(name, False, str(error), advice)
    except Exception as error:  # noqa: BLE001 - a method may raise anything, and other checks go on
        return Finding(name, False, f"{type(error).__name__}: {error}", "Correct the method; the error is its own.")


def prepared(item: Prepared) -> Parametrization:
    """What a preparation that did not fail ended in."""
    assert item.subspace is not None
    return item.subspace


def subspace_of(item: Prepared) -> AffineSubspace:
    """The subspace of a preparation that did not fail. Raises `Broken` where its map is not affine."""
    subspace = prepared(item)
    if not isinstance(subspace, AffineSubspace):
        raise Broken(f"it prepared a {type(subspace).__name__}, which is no subspace", "Have nested() return False.")
    return subspace


def content(item: Prepared) -> tuple[str, list[float]]:
    """Every number of a parametrization: equal where it is the same to the last bit."""
    subspace = prepared(item)
    return subspace.fingerprint(), subspace.start.tolist()


def outside(inner: AffineSubspace, outer: AffineSubspace) -> float:
    """How far the inner affine subspace reaches outside the outer one: 0 where it lies in it."""
    basis = torch.linalg.qr(outer.operator.matrix().double()).Q
    vectors = torch.cat([inner.operator.matrix(), (inner.offset - outer.offset).unsqueeze(1)], dim=1).double()
    return float((vectors - basis @ (basis.T @ vectors)).abs().max())


def _k_range(subject: Subject) -> str:
    low, high = subject.k_range()
    full = subject.problem.full_dimension
    if not 1 <= low <= high <= full:
        raise Broken(
            f"k_range() is {low} to {high} for D = {full}", "Have it return 1 <= low <= high <= blocks[-1].stop."
        )
    return f"k from {low} to {high} of D = {full}"


def _prepares(subject: Subject) -> str:
    found = [prepared(subject.alone(k)) for k in subject.ks()]
    names, kinds = ({type(one).__name__ for one in ones} for ones in (found, [one.operator for one in found]))
    return f"{' or '.join(sorted(names))} with a {' or '.join(sorted(kinds))} at k = {_list(subject.ks())}"


def _exactly_k(subject: Subject) -> str:
    measured = [one.measured_k for one, _ in subject.audits()]
    return f"asked for k = {_list(subject.ks())}, measured rank {_list(measured)}"


def _equal_seeds(subject: Subject) -> str:
    k = subject.ks()[len(subject.ks()) // 2]
    first = content(subject.alone(k))
    again = Subject(subject.method, subject.task, subject.problem)
    if content(again.alone(k)) != first:
        raise Broken(
            f"two preparations of the same trial (k = {k}) differ",
            "Draw every random number from torch.Generator().manual_seed(setting.seed), and from nothing else.",
        )
    if content(subject.alone(k, 1)) == first:
        raise Broken(
            f"two replicates (k = {k}) were given the same subspace",
            "Start from setting.initial, and draw from setting.seed.",
        )
    return f"same bits for the same seed, others for another (k = {k})"


def _packs(subject: Subject) -> str:
    k = subject.ks()[len(subject.ks()) // 2]
    alone, beside = subject.alone(k), subject.prepare((k, 1), (k, 0))[1]
    one, other = prepared(alone), prepared(beside)
    for name, mine, its in (("offset", one.offset, other.offset), ("start", one.start, other.start)):
        if not torch.allclose(mine, its, rtol=1e-3, atol=1e-4):
            raise Broken(
                f"beside another trial it prepares another {name} than alone",
                "Keep nothing between calls of prepare(): no attributes, no globals.",
            )
    if alone.ledger.spent != beside.ledger.spent:
        raise Broken(
            "beside another trial it spends more or less than alone", "Keep nothing between calls of prepare()."
        )
    return "the same alone and beside another trial"


def _nested(subject: Subject) -> str:
    if not subject.method.nested():
        return "not claimed (the bisection design needs it, the Bayesian one does not)"
    ks = subject.ks()
    for smaller, larger in pairwise(ks):
        if (far := outside(*(subspace_of(subject.alone(k)) for k in (smaller, larger)))) > OUTSIDE:
            raise Broken(
                f"nested() says so, but the subspace of k = {smaller} reaches {far:.2g} outside that of k = {larger}",
                "Have nested() return False, or derive both from the same ordered directions.",
            )
    return f"the subspaces of k = {_list(ks)} lie in each other"


def _leaves_the_process_alone(subject: Subject) -> str:
    subject.alone(subject.ks()[0])
    if subject.global_state:
        raise Broken(
            f"preparation changed {subject.global_state}", "Use a torch.Generator of your own, and undo what you set."
        )
    return "random state and modes of torch as they were"


CLAUSES: dict[str, Clause] = {
    "k range": _k_range,
    "preparation": _prepares,
    "exactly k": _exactly_k,
    "equal seeds": _equal_seeds,
    "packs": _packs,
    "nested": _nested,
    "process": _leaves_the_process_alone,
}
"""The contract, in the order in which it is checked."""


def _global_state() -> dict[str, object]:
    return {
        "torch's random state": torch.get_rng_state(),
        "whether torch records gradients": torch.is_grad_enabled(),
        "torch's default type": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
    }


def _difference(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    def same(one: object, other: object) -> bool:
        return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other

    return ", ".join(name for name in before if not same(before[name], after[name]))


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
