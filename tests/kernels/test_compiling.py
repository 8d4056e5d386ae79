"""Kernels compile wherever they are, and their exponential is exact enough for a loss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import config

from lowdim_bench.errors import UserError
from lowdim_bench.kernels import compiling, mlp
from lowdim_bench.kernels.mlp import cross_entropy_rows, exponentials, softmax_rows


def test_a_kernel_that_cannot_be_kept_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    real = compiling.numba.njit

    def nowhere_to_write(*arguments: Any, **options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'double': no locator available")
        return real(*arguments, **options)

    monkeypatch.setattr(compiling.numba, "njit", nowhere_to_write)
    assert compiling.compiled(lambda x: 2 * x)(21) == 42


def test_without_the_compiler_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    with pytest.raises(UserError, match="NUMBA_DISABLE_JIT is set"):
        compiling.compiled(lambda x: 2 * x)


def test_exponentials_are_those_of_numpy_to_three_units_in_the_last_place() -> None:
    values = np.concatenate([np.linspace(-87, 0, 200_001), [-1e-30, -0.0, -86.999, -200.0, -1e30]]).astype(np.float32)
    expected = np.exp(np.maximum(values, -87).astype(np.float64))
    exponentials(values, np.empty(len(values), np.int32))
    assert np.abs(values / expected - 1).max() < 3 * np.finfo(np.float32).eps


def test_cross_entropy_and_its_gradient_are_those_of_float64() -> None:
    logits = np.random.default_rng(0).normal(scale=20, size=(50, 7))
    labels = np.random.default_rng(1).integers(0, 7, 50)
    shifted = logits - logits.max(axis=1, keepdims=True)
    softmax = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(50), labels]
    ours = logits.astype(np.float32)
    assert softmax_rows(ours, labels) == pytest.approx(losses.mean(), rel=1e-6)
    np.testing.assert_allclose(ours, (softmax - np.eye(7)[labels]) / 50, atol=1e-8)
    total, right = cross_entropy_rows(logits.astype(np.float32), labels)
    assert total == pytest.approx(losses.sum(), rel=1e-6)
    assert right == int((logits.argmax(axis=1) == labels).sum())


def test_of_equal_logits_the_first_counts() -> None:
    assert cross_entropy_rows(np.ones((1, 3), np.float32), np.array([0]))[1] == 1
    assert cross_entropy_rows(np.ones((1, 3), np.float32), np.array([1]))[1] == 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_takes_no_other_row_along(wrong: float) -> None:
    logits = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    logits[3, 2] = wrong
    labels = logits.argmax(axis=1)
    total, right = cross_entropy_rows(logits, labels)
    assert np.isnan(total)
    assert right == 9


def test_the_command_line_starts_without_the_compiler() -> None:
    code = "import sys, lowdim_bench.cli; sys.exit('numba' in sys.modules or 'llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_kept_goes_with_any_kernel_and_with_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba itself looks at the caller's file alone: after a change in another one it would go on with the old code."""
    calls = (
        "from lowdim_bench.kernels.compiling import compiled\nfrom other import two\n@compiled\ndef f(): return two()\n"
    )
    (tmp_path / "caller.py").write_text(calls)
    stamps = {compiling.stamp(tmp_path)}
    for text in ("return 2", "return 3"):
        (tmp_path / "other.py").write_text(text)
        stamps.add(compiling.stamp(tmp_path))
    monkeypatch.setitem(compiling.OPTIONS, "fastmath", True)
    stamps.add(compiling.stamp(tmp_path))
    assert len(stamps) == 4


def test_a_kernel_compiled_under_another_stamp_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))

    def hits() -> int:
        kernel: Any = compiling.compiled(_doubled)
        assert kernel(21) == 42
        return sum(kernel.stats.cache_hits.values())

    assert hits() == 0
    assert hits() == 1
    monkeypatch.setattr(compiling, "stamp", lambda _: "another")
    assert hits() == 0
    assert hits() == 1


def _doubled(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("wrong", [-1, 20, 10**12])
def test_an_example_outside_the_data_is_an_error_and_no_crash(wrong: int) -> None:
    widths, size = np.array([3, 2]), 3 * 2 + 2
    arguments = np.zeros((1, size), np.float32), np.zeros((20, 3), np.float32), np.zeros(20, np.int64)
    examples, losses = np.array([[0, wrong]]), np.empty(1, np.float32)
    with pytest.raises(IndexError, match="outside the data"):
        mlp.loss_and_gradient(*arguments, examples, widths, losses, np.empty((1, size), np.float32))
