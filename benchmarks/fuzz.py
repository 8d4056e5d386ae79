"""Whatever a stranger sends: random and mutated input to every loader of data from outside, by three tools.

    python -m benchmarks.fuzz --inputs 100000

`mutation` alters valid files, as bytes and as data; `hypothesis` makes up documents of the words that are known; `atheris`
(coverage-guided, optional: pip install '.[fuzz]') looks for inputs that reach new code, in a process for each loader. A loader
may return, or raise the project's own error; anything else is a fault, which is printed with its input.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import json
import math
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.fuzz_loaders import Loader, loaders

WEIRD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308, 5e-324),
    *(
        "",
        " ",
        "\0",
        "null",
        "1e-3",
        "..",
        "../x",
        "/",
        "a" * 5000,
        "\ud800",
        "é\u202e",
        "{}",
        "!!python/name:os.system",
    ),
    *([], {}, [[]], {"": {}}, [None] * 100, {"kind": "adam"}, {"kind": []}),
)
TOKENS = (
    *(
        b"\0",
        b"\xff",
        b"\xf0\x9f",
        b"\n",
        b"\t",
        b"  ",
        b": ",
        b"- ",
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"'",
        b"\\",
        b"\\ud800",
    ),
    *(
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!binary ",
        b"!!timestamp ",
        b"!!set ",
        b"? ",
        b"---\n",
        b"...",
        b"# ",
        b"|\n",
        b">-\n",
        b"%",
    ),
    *(
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b".nan",
        b".inf",
        b"1e999",
        b"0x7f",
        b"1_0",
        b"null",
        b"~",
        b"0o17",
        b"1" * 5000,
    ),
    *(b"[" * 3000, b"{a: " * 500, b'{"a":' * 2000, b"9999-99-99", b"\xef\xbb\xbf", b"\x85", b"\xe2\x80\xa8"),
)
LONG = 100
"""Longer words are left to mutation."""


class Mutator:
    """Alters valid inputs, reproducibly."""

    def __init__(self, seeds: Sequence[bytes], chance: random.Random) -> None:
        self._seeds, self._chance = seeds, chance
        self._data = [data for seed in seeds if (data := _as_data(seed)) is not None]

    def next(self) -> bytes:
        if self._data and self._chance.random() < 0.5:
            data = json.loads(json.dumps(self._chance.choice(self._data)))
            for _ in range(self._chance.choice((1, 1, 1, 2, 4))):
                data = self._alter(data)
            return json.dumps(data).encode()
        content = bytearray(self._chance.choice(self._seeds))
        for _ in range(self._chance.choice((1, 1, 2, 3, 8))):
            self._scramble(content)
        return bytes(content)

    def _scramble(self, content: bytearray) -> None:
        chance = self._chance
        start = chance.randrange(len(content) + 1)
        stop = min(len(content), start + chance.choice((1, 1, 2, 4, 16, 100)))
        kind = chance.randrange(6)
        if kind == 0 and start < len(content):
            content[start] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del content[start:stop]
        elif kind == 2:
            content[start:start] = content[start:stop] * chance.choice((1, 2, 50))
        elif kind == 3:
            content[start:start] = chance.choice(TOKENS)
        elif kind == 4:
            content[start:stop] = chance.choice(TOKENS)
        else:
            other = chance.choice(self._seeds)
            cut = chance.randrange(len(other) + 1)
            content[start:] = other[cut:]

    def _alter(self, data: Any) -> Any:
        """One place of plain data, altered."""
        chance = self._chance
        if isinstance(data, dict) and data and chance.random() < 0.85:
            key = chance.choice(sorted(data))
            kind = chance.randrange(8)
            if kind == 0:
                return {name: value for name, value in data.items() if name != key}
            if kind == 1:
                return {**data, chance.choice(("x", "", "kind", f"{key}_", "\0")): chance.choice(WEIRD)}
            return {**data, key: self._alter(data[key])}
        if isinstance(data, list) and data and chance.random() < 0.85:
            place = chance.randrange(len(data))
            kind = chance.randrange(4)
            if kind == 0:
                return data[:place] + data[place + 1 :]
            if kind == 1:
                return data + data[place:]
            return [*data[:place], self._alter(data[place]), *data[place + 1 :]]
        if isinstance(data, int | float) and abs(data) < 1e300 and chance.random() < 0.5:
            return chance.choice((-data, data + 1, data * 2, data / 3, data * 1e9, str(data)))
        return chance.choice(WEIRD)


def _as_data(content: bytes) -> Any:
    from lowdim_bench.errors import UserError
    from lowdim_bench.specs import parse_yaml

    try:
        data = parse_yaml(content.decode(), "a seed")
    except (UserError, UnicodeDecodeError):
        return None
    return data if isinstance(data, dict) else None


def by_mutation(loader: Loader, inputs: int, seed: int) -> int:
    """How many inputs were tried; raises what the loader must not raise."""
    mutator = Mutator(loader.seeds, random.Random(f"{loader.name} {seed}"))
    for content in loader.seeds:
        loader.load(content)  # which must be valid, or mutating them says little
    for _ in range(inputs):
        try_input(loader, mutator.next())
    return inputs


def by_hypothesis(loader: Loader, inputs: int, seed: int) -> int:
    """The same, with documents made up of the words that valid ones have."""
    import hypothesis
    from hypothesis import strategies as st

    words = sorted({word.decode() for one in loader.seeds for word in re.findall(rb"[a-z_]{2,30}", one[:20_000])})
    scalars = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(words), st.text(max_size=20),
        st.sampled_from([w for w in WEIRD if isinstance(w, str) and len(w) < LONG]),
    )  # fmt: skip
    keys = st.sampled_from(words) | st.text(max_size=5)

    def nested(inner: Any) -> Any:
        return st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6)

    documents = st.recursive(scalars, nested, max_leaves=25).map(lambda data: json.dumps(data).encode())
    pieces = st.lists(
        st.sampled_from([token for token in TOKENS if len(token) < LONG])
        | st.sampled_from(words).map(str.encode)
        | st.binary(max_size=6),
        max_size=20,
    )
    tried = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(documents | pieces.map(b"".join))
    def run(content: bytes) -> None:
        nonlocal tried
        tried += 1
        try_input(loader, content)

    run()
    return tried


def by_atheris(loader: Loader, inputs: int, seed: int) -> int:
    """The same, guided by coverage, in a process of its own since libFuzzer ends its process."""
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(loader.seeds):
            (Path(folder) / f"seed-{number}").write_bytes(content[:65536])
        command = [
            sys.executable,
            "-m",
            "benchmarks.fuzz",
            "--guided",
            loader.name,
            f"-runs={inputs}",
            f"-seed={seed + 1}",
        ]
        done = subprocess.run(
            [*command, "-max_len=65536", "-timeout=20", f"-artifact_prefix={folder}/", folder],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"atheris found a fault of the loader {loader.name}:\n{done.stderr[-4000:]}")
        return int(re.findall(r"Done (\d+) runs", done.stderr)[-1])


def _guided(name: str, options: list[str]) -> None:
    """In the process that `by_atheris` starts: instrument our own code and the YAML reader, and run."""
    atheris: Any = importlib.import_module("atheris")  # an optional extra
    with (
        atheris.instrument_imports(include=["lowdim_bench", "yaml"], enable_loader_override=False),
        chosen(name) as loader,
    ):
        for content in loader.seeds:
            loader.load(content)
        atheris.Setup(["fuzz", *options], lambda content: try_input(loader, content))
        atheris.Fuzz()


def try_input(loader: Loader, content: bytes) -> None:
    """Raises AssertionError, with the input, where a loader raises what it must not."""
    try:
        loader.load(content)
    except loader.allowed:
        return
    except BaseException as error:
        shown = base64.b85encode(content[:3000]).decode()
        raise AssertionError(
            f"the loader {loader.name} raised {type(error).__name__}: {error}\ninput ({len(content)} bytes):\n"
            f"{content[:500]!r}\nbase85: {shown}\n{traceback.format_exc()[-2500:]}"
        ) from error


@contextmanager
def chosen(name: str) -> Iterator[Loader]:
    """The loader of a name."""
    with tempfile.TemporaryDirectory(prefix="lowdim-fuzz-") as scratch:
        yield next(one for one in loaders(Path(scratch)) if one.name == name)


TOOLS: dict[str, tuple[Callable[[Loader, int, int], int], float]] = {
    "mutation": (by_mutation, 0.6),
    "hypothesis": (by_hypothesis, 0.15),
    "atheris": (by_atheris, 0.25),
}
"""Each tool with its share of the inputs."""


def fuzz(
    inputs: int, tools: Sequence[str], names: Sequence[str], seed: int
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Counts of inputs by (loader, tool), and the faults that were found."""
    counts: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    total = sum(TOOLS[tool][1] for tool in tools)
    with tempfile.TemporaryDirectory(prefix="lowdim-fuzz-") as scratch:
        chosen_loaders = [one for one in loaders(Path(scratch)) if not names or one.name in names]
        weights = sum(loader.weight for loader in chosen_loaders)
        for loader in chosen_loaders:
            for tool in tools:
                run, share = TOOLS[tool]
                count = math.ceil(inputs * share / total * loader.weight / weights)
                try:
                    counts[loader.name, tool] = run(loader, count, seed)
                except AssertionError as error:
                    faults.append(f"{tool}: {error}")
    return counts, faults


def main(arguments: Sequence[str]) -> None:
    """Parse, fuzz, print; the exit code is 1 where a fault was found."""
    if arguments[:1] == ["--guided"]:
        _guided(arguments[1], list(arguments[2:]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--inputs", type=int, default=100_000, help="at least so many, of all loaders and tools together"
    )
    parser.add_argument("--tool", action="append", choices=list(TOOLS), help="default: all that are installed")
    parser.add_argument("--loader", action="append", default=[], help="only this one; may be given several times")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    tools = options.tool or [tool for tool in TOOLS if tool != "atheris" or _has_atheris()]
    began = time.monotonic()
    counts, faults = fuzz(options.inputs, tools, options.loader, options.seed)
    names = list(dict.fromkeys(name for name, _ in counts))
    lines = [f"{'loader':<14}" + "".join(f"{tool:>12}" for tool in tools)]
    lines += [f"{name:<14}" + "".join(f"{counts[name, tool]:>12,}" for tool in tools) for name in names]
    lines.append(f"{counts.total():,} inputs in {time.monotonic() - began:.0f} s, {len(faults)} faults")
    sys.stdout.write("\n".join([*lines, *faults]) + "\n")
    raise SystemExit(1 if faults else 0)


def _has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


if __name__ == "__main__":
    main(sys.argv[1:])
