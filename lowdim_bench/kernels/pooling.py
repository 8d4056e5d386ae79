"""2 x 2 average pooling of positive parts, forward and back, a row of windows at a time. LLVM makes poor vectors of such
loops: it cannot know that the arrays do not overlap."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lowdim_bench.kernels.vectors import INDEX, LANES, VECTOR, Operand

_ZEROS = ir.Constant(VECTOR, [0.0] * LANES)
_QUARTERS = ir.Constant(VECTOR, [0.25] * LANES)


def _pool_row(typing: Any, sums: Any, sums_at: Any, out: Any, out_at: Any, count: Any) -> Any:  # noqa: ARG001 - Numba's name
    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, to = (Operand.of(context, builder, signature.args[i], given[i], given[i + 1]) for i in (0, 2))
        with cgutils.for_range(builder, given[4], intp=INDEX) as window:
            left = builder.mul(window.index, INDEX(2 * LANES))
            halves = []
            for line in range(2):
                values = [source.moved((INDEX(line), 1)).plus(left).plus(side * LANES).load() for side in range(2)]
                below = [builder.fcmp_ordered("<", value, _ZEROS) for value in values]
                positive = [builder.select(*each) for each in zip(below, (_ZEROS, _ZEROS), values, strict=True)]
                halves.append(builder.fadd(*positive))
            mean = builder.fmul(builder.fadd(*halves), _QUARTERS)
            to.plus(builder.mul(window.index, INDEX(LANES))).store(mean)
        return context.get_dummy_value()

    return types.none(sums, sums_at, out, out_at, count), write


def _unpool_row(
    typing: Any,  # noqa: ARG001
    above: Any, above_at: Any, sums: Any, sums_at: Any, totals: Any, totals_at: Any, count: Any,
) -> Any:  # fmt: skip
    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        back, pixels, total = (
            Operand.of(context, builder, signature.args[i], given[i], given[i + 1]) for i in (0, 2, 4)
        )
        with cgutils.for_range(builder, given[6], intp=INDEX) as window:
            left = builder.mul(window.index, INDEX(2 * LANES))
            share = builder.fmul(back.plus(builder.mul(window.index, INDEX(LANES))).load(), _QUARTERS)
            for side in range(2):
                added = total.plus(left).plus(side * LANES)
                value = added.load()
                for line in range(2):
                    pixel = pixels.moved((INDEX(line), 1)).plus(left).plus(side * LANES)
                    slope = builder.select(builder.fcmp_ordered(">", pixel.load(), _ZEROS), share, _ZEROS)
                    pixel.store(slope)
                    value = builder.fadd(value, slope)
                added.store(value)
        return context.get_dummy_value()

    return types.none(above, above_at, sums, sums_at, totals, totals_at, count), write


pool_row: Any = intrinsic(_pool_row)
"""pool_row(sums, (start, row), out, (start,), count): means of the positive parts in `count` windows side by side.

With `LANES` channels at each pixel; `start` is where the first pixel lies, `row` how far the next row is from it. NaN stays
NaN. Nothing is checked.
"""

unpool_row: Any = intrinsic(_unpool_row)
"""unpool_row(above, (start,), sums, (start, row), totals, (start,), count): the way back through `pool_row`.

Sums become the gradient at them: a quarter of the one above where they are positive, zero elsewhere. It is added to totals
(2 * count * LANES,), pixel by pixel of a row, the upper row first.
"""
