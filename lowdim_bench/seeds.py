"""Seeds: every random number of the project comes from `derive`, and so from names that can be read back.

Initialization and batch order depend on (task name, replicate) alone, so that all methods are compared on the same ones.
"""

from __future__ import annotations

import hashlib


def derive(*parts: str | int) -> int:
    """A seed in [0, 2**63) that depends on every part and on their order (first 63 bits of SHA-256)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
