"""What a worker raised, judged: a bug comes again, but what was done to submitted code's processes from outside may not."""

from __future__ import annotations

import pytest
from ray.exceptions import AuthenticationError, RayTaskError

from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.execution import cluster
from lowdim_bench.execution.failures import judge


@pytest.mark.parametrize(
    ("cause", "failure"),
    [(InfrastructureError("ended"), "crash"), (UserError("ended"), "bug"), (MemoryError("ended"), "memory")],
)
def test_the_cause_decides_whether_it_is_tried_again(cause: Exception, failure: str) -> None:
    found = judge(RayTaskError("run", "traceback", cause))
    assert found.failure == failure


def test_a_head_that_was_started_anew_is_named_and_no_fault_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["RPC error: WrongClusterID: Perhaps the client is accessing GCS after it has restarted."]

    def refused(*_: object, **__: object) -> None:
        raise AuthenticationError(said[0])

    monkeypatch.setattr(cluster.ray, "get", refused)
    monkeypatch.setattr(cluster.ray, "wait", refused)
    monkeypatch.setattr(cluster.ray, "put", refused)
    ours = object.__new__(cluster.Cluster)
    for ask in (lambda: ours.answer("x"), lambda: ours.answered(["x"], 0.1), lambda: ours.share(1)):
        with pytest.raises(InfrastructureError, match=r"was started anew.* Run the same command again"):
            ask()
    said[0] = "the token is wrong"
    with pytest.raises(AuthenticationError):
        ours.share(1)


def test_words_of_our_own_are_shown_without_a_traceback() -> None:
    assert judge(RayTaskError("run", "traceback", InfrastructureError("were ended"))).cause == "were ended"
