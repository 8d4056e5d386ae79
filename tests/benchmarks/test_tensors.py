"""What the tensor benchmark counts and prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tensors
from lowdim_bench.problems.tensors import planted_tensor
from lowdim_bench.specs.tensors import PlantedTensor


def runs(fits: list[float], seconds: list[float]) -> tensors.Runs:
    return tensors.Runs(np.array(fits), np.array(seconds), np.array([7] * len(fits)))


def test_a_line_is_paired_with_alternating_least_squares() -> None:
    reference = runs([0.9, 0.9, 0.2], [4.0, 2.0, 8.0])
    found = tensors.line("plain", "cp_leverage", runs([0.897, 0.89, 0.9], [2.0, 1.0, 4.0]), reference)
    assert (found.fit, found.lowest_fit, found.close, found.seeds, found.rows) == (0.897, 0.89, 2, 3, 7)
    assert (found.faster, found.faster_low, found.faster_high) == pytest.approx((2.0, 2.0, 2.0))
    assert tensors.line("plain", "cp_als", reference, reference).faster is None


def test_the_command_decomposes_a_tensor_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plain = {"kind": "planted_tensor", "shape": [9, 8, 7], "rank": 2, "noise": 0.1}
    np.savez(tmp_path / "mine.npz", x=planted_tensor(PlantedTensor.from_data(plain, "a tensor of the tests")))
    asked = ["--file", str(tmp_path / "mine.npz"), "--rank", "2", "--seeds", "3", "--json"]
    tensors.main([*asked, "--methods", "cp_als", "cp_leverage,samples=40"])
    als, sampled = map(json.loads, capsys.readouterr().out.splitlines())
    assert als["fit"] == pytest.approx(0.9, abs=0.03)
    # The last mode takes 34 of the 100 steps, and has 9 x 8 rows.
    assert als["rows"] == 34 * 56 + 33 * (63 + 72)
    assert sampled["rows"] <= 100 * 40
    assert 0 < sampled["faster_low"] <= sampled["faster"] <= sampled["faster_high"]


def test_what_is_not_valid_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, reason in ((["flat"], "unknown tensor 'flat'"), (["plain", "--seeds", "1"], "at least 2")):
        with pytest.raises(SystemExit):
            tensors.main(arguments)
        assert reason in capsys.readouterr().err
