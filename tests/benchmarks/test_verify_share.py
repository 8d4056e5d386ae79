"""Verification beside training, on a tiny task."""

from __future__ import annotations

import pytest

from benchmarks import verify_share
from benchmarks.verify_share import Pair


def test_shares_are_medians_over_pairs_of_each_k() -> None:
    pairs = [Pair(8, r, 100, 10.0, seconds, 0.25) for r, seconds in enumerate((1.0, 2.0, 6.0))]
    said = verify_share.table([*pairs, Pair(4, 0, 300, 20.0, 1.0, 0.5)])
    assert "20 % (10 .. 60)" in said
    assert "5 % (5 .. 5)" in said
    assert "all 4: 20 % of all processor time" in said


@pytest.mark.slow
def test_trainings_that_reach_their_target_are_paired_with_their_verification(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["digits-mlp", "--ks", "2048", "3", "--pairs", "2", "--replicates", "3"]
    verify_share.main(arguments)
    said = capsys.readouterr().out
    assert "all 2: " in said, "three numbers are too few to reach anything"
    with pytest.raises(SystemExit, match="1"):
        verify_share.main([*arguments, "--at-most", "0.001"])
    with pytest.raises(SystemExit, match="give larger ks"):
        verify_share.main(["digits-mlp", "--ks", "3", "--pairs", "1", "--replicates", "1"])
