"""Submitted code runs in processes of its own, one for each trial: fenced in, limited, and given the problem as an oracle.

What comes out is a parametrization as plain tensors, checked before use. Neither the command line nor a driver, a trainer or
the leaderboard ever imports a submission's code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lowdim_bench.methods import Method, MethodChoice


def build(choice: MethodChoice) -> Method:
    """The method of a choice: built here where it is our own or installed, else one that runs in isolation.

    Raises `UserError` for a name, key or value that is not valid; what a submission does wrong shows when it is asked.
    """
    # Imported late: the nursery, which starts from this package too, enters its namespaces before torch is there.
    from lowdim_bench.isolation.method import IsolatedMethod

    return choice.build() if choice.code is None else IsolatedMethod(choice=choice)


def release() -> None:
    """End the nursery of this process, if there is one, and give its memory back; whoever needs one again starts another."""
    from lowdim_bench.isolation.host import HOST

    HOST.close()
