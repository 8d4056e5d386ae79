"""What a worker raised, judged: a bug comes again, but what was done to submitted code's processes from outside may not."""

from __future__ import annotations

import pytest
from ray.exceptions import RayTaskError

from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.execution.failures import judge


@pytest.mark.parametrize(
    ("cause", "failure"),
    [(InfrastructureError("ended"), "crash"), (UserError("ended"), "bug"), (MemoryError("ended"), "memory")],
)
def test_the_cause_decides_whether_it_is_tried_again(cause: Exception, failure: str) -> None:
    found = judge(RayTaskError("run", "traceback", cause))
    assert found.failure == failure


def test_words_of_our_own_are_shown_without_a_traceback() -> None:
    assert judge(RayTaskError("run", "traceback", InfrastructureError("were ended"))).cause == "were ended"
