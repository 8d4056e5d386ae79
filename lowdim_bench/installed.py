"""What installed packages add through entry points. They are trusted: who installed them runs them with their own rights."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points

from lowdim_bench.errors import UserError

METHODS = "lowdim_bench.methods"
"""Group of entry points: a method's name = module:Class."""
TASKS = "lowdim_bench.tasks"
"""Group of entry points: a task's name = the package in which NAME.yaml lies."""


def additions(group: str, shipped: Collection[str]) -> dict[str, EntryPoint]:
    """The entry points of a group by name. Raises `UserError` where one has a shipped one's name, or two have the same."""
    found: dict[str, EntryPoint] = {}
    points = {(point.name, package_of(point), point.value): point for point in entry_points(group=group)}
    for _, point in sorted(points.items()):
        kind = group.rpartition(".")[2].removesuffix("s")
        if point.name in shipped:
            raise UserError(
                f"Package {package_of(point)} adds a {kind} named '{point.name}', which lowdim-bench ships itself. "
                "Uninstall the package, or have it choose another name."
            )
        if point.name in found:
            raise UserError(
                f"Packages {package_of(found[point.name])} and {package_of(point)} both add a {kind} named '{point.name}'. "
                "Uninstall one of them, or have it choose another name."
            )
        found[point.name] = point
    return found


def package_of(point: EntryPoint) -> str:
    """The package that an entry point belongs to, as name==version."""
    return f"{point.dist.name}=={point.dist.version}" if point.dist else "(unknown)"
