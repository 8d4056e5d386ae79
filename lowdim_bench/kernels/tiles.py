"""Matrix products whose sums stay in vector registers. LLVM does not make them of loops over arrays: they are spelled out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lowdim_bench.kernels.vectors import INDEX, VECTOR, Operand


def tile(pixels: int, vectors: int, step: int, across: int) -> Any:
    """What kernels call as f(a, a_at, b, b_at, counts, base, base_at, out, out_at, valid), in float32 on flat arrays.

    For r < counts[0], p < `valid` <= pixels and v < vectors, with x, y, z in ranges of counts[1:]:

        out[r, p, v] = base[r, p, v] + sum over x, y, z of a[r, x, y, z, p] * b[r, x, y, z, v]

    with `LANES` numbers in sequence at each place of out, base and b, and one in a. `a_at` holds the start of a and its strides
    in r, x, y, z and p // across (that in p % across is `step`), `b_at` the start of b and its strides in r, x, y, z and v,
    `base_at` and `out_at` their starts and their strides in r, p and v. Nothing is checked; a is read at all p < pixels.
    """
    writer = _Tile(pixels, vectors, step, across)

    def product(
        typing: Any,  # noqa: ARG001 - Numba passes it by this name
        a: Any, a_at: Any, b: Any, b_at: Any, counts: Any, base: Any, base_at: Any, out: Any, out_at: Any, valid: Any,
    ) -> Any:  # fmt: skip
        return types.none(a, a_at, b, b_at, counts, base, base_at, out, out_at, valid), writer.write

    return intrinsic(product)


@dataclass(frozen=True)
class _Tile:
    """Writes the instructions of a product of given sizes."""

    pixels: int
    vectors: int
    step: int
    across: int

    def write(self, context: Any, builder: Any, signature: Any, given: Any) -> Any:
        a, b, base, out = (
            Operand.of(context, builder, signature.args[i], given[i], given[i + 1]) for i in (0, 2, 5, 7)
        )
        ranges = cgutils.unpack_tuple(builder, given[4])
        count = self.pixels * self.vectors
        sums = [cgutils.alloca_once(builder, VECTOR) for _ in range(count)]  # registers, when LLVM is done
        done = cgutils.alloca_once(builder, VECTOR, count)
        with cgutils.for_range(builder, ranges[0], intp=INDEX) as row:
            for total in sums:
                builder.store(ir.Constant(VECTOR, None), total)
            self._add_up(builder, ranges, a.moved((row.index, 1)), b.moved((row.index, 1)), sums)
            for i, total in enumerate(sums):
                builder.store(builder.load(total), builder.gep(done, [INDEX(i)]))
            with cgutils.for_range(builder, given[9], intp=INDEX) as pixel:
                for v in range(self.vectors):
                    place = builder.add(builder.mul(pixel.index, INDEX(self.vectors)), INDEX(v))
                    total = builder.load(builder.gep(done, [place]))
                    where = (row.index, 1), (pixel.index, 2), (INDEX(v), 3)
                    out.moved(*where).store(builder.fadd(base.moved(*where).load(), total))
        return context.get_dummy_value()

    def _add_up(self, builder: Any, ranges: Any, a: Operand, b: Operand, sums: list[Any], depth: int = 1) -> None:
        """The loops over x, y and z, one within the other."""
        if depth == len(ranges):
            self._add_products(builder, a, b, sums)
            return
        with cgutils.for_range(builder, ranges[depth], intp=INDEX) as each:
            here = each.index, depth + 1
            self._add_up(builder, ranges, a.moved(here), b.moved(here), sums, depth + 1)

    def _add_products(self, builder: Any, a: Operand, b: Operand, sums: list[Any]) -> None:
        rights = [b.moved((INDEX(v), 5)).load() for v in range(self.vectors)]
        for p in range(self.pixels):
            place = a.moved((INDEX(p // self.across), 5)).plus(p % self.across * self.step)
            left = place.load_everywhere()
            for v, right in enumerate(rights):
                total = sums[p * self.vectors + v]
                # Contracted, both are one instruction where the processor has it.
                product = builder.fmul(left, right, flags=("contract",))
                builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
