"""How fast machines are: as data sheets state it, or as measured here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lowdim_bench.errors import unknown
from lowdim_bench.execution.memory import FIRST, fitting
from lowdim_bench.forecast.workloads import Workload
from lowdim_bench.threads import use_one_thread

_UTILIZATION = 0.35
"""The share of a GPU's stated rates that is assumed to be reached."""
_CALL_SECONDS = 0.01
"""Assumed of a GPU: what one step of one trial takes however small its network is."""
_START_SECONDS = 60.0
"""Assumed of a worker on a cluster: to start, import, and receive its data."""
_LARGE = 1024


@dataclass(frozen=True)
class Machine:
    """One worker's share of a machine."""

    name: str
    operations: float
    """Floating-point operations a second that training reaches, in float32."""
    bandwidth: float
    """Bytes a second that it reaches."""
    memory: float | None
    """Bytes for packs; None where packs are not bounded by it."""
    call_seconds: float
    """The least that one step of one trial takes."""
    start_seconds: float
    source: str

    def step_seconds(self, work: Workload) -> float:
        """Of one step of one trial in a pack: its operations, then what it moves beside them. These do not overlap, for they
        are different kernels one after the other."""
        return max(self.call_seconds, work.step_operations / self.operations + work.step_bytes / self.bandwidth)

    def evaluation_seconds(self, work: Workload) -> float:
        """Of one evaluation of one trial."""
        return work.evaluation_operations / self.operations

    def trial_seconds(self, work: Workload, share: float = 1.0) -> float:
        """Of one trial that trains this share of its steps."""
        steps, evaluations = share * work.steps * work.runs, share * work.evaluations * work.runs
        return steps * self.step_seconds(work) + evaluations * self.evaluation_seconds(work)

    def pack(self, work: Workload) -> int | None:
        """How many trials a worker trains at once after its first pack, as workers decide it; None: as many as it is given.
        Zero where not even one fits."""
        if self.memory is None:
            return None
        return 0 if work.trial_bytes > self.memory else fitting(work.trial_bytes, self.memory)


def _stated(name: str, teraflops: float, terabytes: float, gigabytes: float) -> Machine:
    return Machine(
        name=name,
        operations=_UTILIZATION * teraflops * 1e12,
        bandwidth=_UTILIZATION * terabytes * 1e12,
        memory=gigabytes * 1e9,
        call_seconds=_CALL_SECONDS,
        start_seconds=_START_SECONDS,
        source=(
            f"NVIDIA's data sheet: {teraflops:g} TFLOP/s in float32, {terabytes:g} TB/s, {gigabytes:g} GB; assumed: "
            f"{_UTILIZATION:.0%} of these rates, {1000 * _CALL_SECONDS:g} ms a step at the least, {_START_SECONDS:g} s to start"
        ),
    )


STATED = {
    machine.name: machine
    for machine in (_stated("a100", 19.5, 2.039, 80), _stated("h100", 67, 3.35, 80), _stated("h200", 67, 4.8, 141))
}
"""GPUs whose speed is stated by who makes them (A100 80 GB SXM, H100 SXM, H200 SXM); nothing here was measured on one."""


def machine(name: str) -> Machine:
    """A stated machine, or `here`: one core of this one, measured. Raises `UserError` for another name."""
    if name == "here":
        return measured()
    if name not in STATED:
        raise unknown("device", name, ["here", *STATED])
    return STATED[name]


def measured() -> Machine:
    """One core of this machine: the best rate of a 1024 x 1024 matrix product in float32, and of adding two long vectors."""
    one, other = (torch.ones(_LARGE, _LARGE) for _ in range(2))
    product = torch.empty_like(one)
    rate = 2 * _LARGE**3 / _best(lambda: torch.mm(one, other, out=product))
    long = torch.ones(16 * _LARGE**2)
    total = torch.empty_like(long)
    bandwidth = 3 * 4 * len(long) / _best(lambda: torch.add(long, long, out=total))
    source = (
        f"measured on one core here: {rate / 1e9:.3g} GFLOP/s in matrix products, {bandwidth / 1e9:.3g} GB/s in sums"
    )
    return Machine("here", rate, bandwidth, None, 0.0, 20.0, source)


def _best(action: Callable[[], object], times: int = 5) -> float:
    """Seconds of this process in the fastest of some runs: the others were disturbed."""
    use_one_thread()
    taken = []
    for _ in range(times):
        started = time.process_time()
        action()
        taken.append(time.process_time() - started)
    return max(min(taken), 1e-6)


FIRST_PACK = FIRST
"""Trials in a worker's first pack, before it has measured what one takes."""
