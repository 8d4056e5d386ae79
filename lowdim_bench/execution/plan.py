"""How many workers fit into a cluster. Pure: knows nothing of Ray."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lowdim_bench.errors import UserError
from lowdim_bench.settings import Settings


@dataclass(frozen=True)
class Plan:
    """How many workers, and what each of them takes."""

    workers: int
    cpus: float
    gpus: float
    device: str


def plan_workers(settings: Settings, resources: Mapping[str, float]) -> Plan:
    """The workers that fit into a cluster. Raises `UserError` for more than fit, since Ray would wait for ever."""
    gpus_there, cpus_there = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    fraction = settings.gpus_per_worker
    if fraction is None:
        fraction = 1.0 if gpus_there else 0.0
    each = Plan(1, 1, fraction, "cuda" if fraction else "cpu")
    if settings.autoscaling:
        if settings.workers is None:
            raise UserError("On a cluster that grows on demand, say how far it shall: give --workers.")
        return Plan(settings.workers, each.cpus, each.gpus, each.device)
    # Ray never splits one worker's fraction over two GPUs, so 0.4 gives two to each.
    slots = gpus_there * math.floor(1 / fraction + 1e-9) if fraction else cpus_there
    fit = min(slots, cpus_there)
    if fit < 1 or (settings.workers or 1) > fit:
        asked = f"{settings.workers or 'at least 1'} worker(s) with 1 CPU" + (
            f" and {fraction:g} GPU" if fraction else ""
        )
        raise UserError(
            f"Asked for {asked} each, but the cluster has {cpus_there} CPU(s) and {gpus_there} GPU(s): at most {fit} fit. "
            "Give fewer --workers or another --gpus-per-worker (0 for CPU only); for a cluster that grows on demand, "
            "give --autoscaling."
        )
    return Plan(settings.workers or fit, each.cpus, each.gpus, each.device)
