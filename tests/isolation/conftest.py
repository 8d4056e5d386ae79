"""One nursery for all of these tests, as a worker has one for all of its trials; started beside secrets."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lowdim_bench.isolation.fences import MOUNT_POINT
from lowdim_bench.isolation.host import HOST
from lowdim_bench.isolation.limits import Limits
from tests.isolation.code import inside

SECRETS = ("RAY_AUTH_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(scope="session", autouse=True)
def _nursery() -> Iterator[None]:
    HOST.close()  # of tests elsewhere
    with pytest.MonkeyPatch.context() as patch:
        for name in SECRETS:
            patch.setenv(name, "sesame")
        HOST.start(Limits(), []).end()
    yield
    HOST.close()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """After each test the nursery has no children, and nothing they wrote is seen outside."""
    yield
    deadline = time.monotonic() + 5
    while inside() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not inside()
    assert not (MOUNT_POINT / "code").exists()
