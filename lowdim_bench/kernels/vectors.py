"""Vectors of `LANES` numbers on flat arrays, for instructions that are spelled out because LLVM does not make them of loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils

LANES = 16
"""Numbers in a vector register of 512 bits. Where registers are shorter, LLVM takes several for one."""
WIDE = binding.get_host_cpu_features().get("avx512f", False)
"""Whether this processor's registers hold `LANES` numbers each; if not, it has at most half as much room in them."""
INDEX, NUMBER = ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(NUMBER, LANES)
_LANE = ir.IntType(32)
_UNDEFINED = ir.Constant(VECTOR, ir.Undefined)
_EVERYWHERE = ir.Constant(ir.VectorType(_LANE, LANES), None)


@dataclass(frozen=True)
class Operand:
    """A flat array, and a place in it: `at` has that of its start, then strides."""

    builder: Any
    data: Any
    at: Sequence[Any]

    @staticmethod
    def of(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Operand:
        """Of an intrinsic's arguments: an array of Numba type `kind`, and a tuple of places and strides."""
        return Operand(
            builder, context.make_array(kind)(context, builder, array).data, cgutils.unpack_tuple(builder, at)
        )

    def plus(self, offset: Any) -> Operand:
        offset = INDEX(offset) if isinstance(offset, int) else offset
        return Operand(self.builder, self.data, [self.builder.add(self.at[0], offset), *self.at[1:]])

    def moved(self, *steps: tuple[Any, int]) -> Operand:
        """By so many strides, which are given by their place in `at`."""
        place = self
        for count, stride in steps:
            place = place.plus(self.builder.mul(count, self.at[stride]))
        return place

    def load(self) -> Any:
        """`LANES` numbers in sequence."""
        return self.builder.load(self._pointer(VECTOR), align=4)

    def load_everywhere(self) -> Any:
        """One number, in all lanes."""
        number = self.builder.load(self._pointer(NUMBER), align=4)
        single = self.builder.insert_element(_UNDEFINED, number, _LANE(0))
        return self.builder.shuffle_vector(single, _UNDEFINED, _EVERYWHERE)

    def store(self, vector: Any) -> None:
        self.builder.store(vector, self._pointer(VECTOR), align=4)

    def _pointer(self, kind: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.data, [self.at[0]]), kind.as_pointer())
