"""Where time goes between parts of a program: timers around the real functions, put on from outside."""

from __future__ import annotations

import functools
import importlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any


class PartTimer:
    """Adds the time of every call to the outermost part that is under way: a projection within an audit is audit."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._inside = False
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._began = clock()

    def parts(self) -> tuple[dict[str, float], float]:
        """Seconds of each part, with what is left as `other`, and their sum: the time since this timer was made."""
        total = self._clock() - self._began
        return {**self._seconds, "other": total - sum(self._seconds.values())}, total

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        if self._inside:
            yield
            return
        self._inside, began = True, self._clock()
        try:
            yield
        finally:
            self._seconds[name] += self._clock() - began
            self._inside = False

    @contextmanager
    def watch(self, places: Mapping[str, Sequence[str]]) -> Iterator[None]:
        """Time functions meanwhile: `places` holds 'module:function' or 'module:Class.method' for each part.

        Raises AttributeError where the package has no such function any more: a part would silently be missing.
        """
        with ExitStack() as restore:
            for part, names in places.items():
                for name in names:
                    restore.callback(self._wrap(part, name))
            yield

    def _wrap(self, part: str, name: str) -> Callable[[], None]:
        """Put the timed function in its place; returns what puts the plain one back."""
        module, _, path = name.partition(":")
        owner: Any = importlib.import_module(module)
        *classes, function = path.split(".")
        for attribute in classes:
            owner = getattr(owner, attribute)
        if isinstance(owner, type):  # a method may be inherited
            owner = next((base for base in owner.__mro__ if function in vars(base)), owner)
        plain = vars(owner).get(function)
        if plain is None:
            raise AttributeError(
                f"{name} is timed as '{part}', but does not exist; say in this benchmark what took its place"
            )
        inner = plain.__func__ if isinstance(plain, classmethod) else plain

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return inner(*args, **kwargs)

        setattr(owner, function, classmethod(timed) if isinstance(plain, classmethod) else timed)
        return lambda: setattr(owner, function, plain)
