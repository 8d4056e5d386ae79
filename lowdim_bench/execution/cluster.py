"""The Ray cluster that a driver uses: started here or joined, watched, and left. All calls of Ray are in this package's
`cluster` and `failures`, which are imported only after `prepare_environment`: Ray reads its environment when imported."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

import ray
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.exceptions import AuthenticationError

from lowdim_bench import __version__
from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.execution.failures import judge
from lowdim_bench.execution.jobs import Trouble
from lowdim_bench.execution.plan import Plan
from lowdim_bench.execution.worker import Work, Worker
from lowdim_bench.settings import Settings, why_unreachable

PROBE_EVERY = 2.0
AGAIN = "Run the same command again once it is up: finished trials are kept, and only the others are run."


P = ParamSpec("P")
T = TypeVar("T")


def of_one_head(ask: Callable[P, T]) -> Callable[P, T]:
    """A question to Ray, which raises `InfrastructureError` where the head was started anew meanwhile: that is another cluster,
    and Ray calls what it answers an error of authentication."""

    @functools.wraps(ask)
    def asked(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return ask(*arguments, **options)
        except AuthenticationError as error:
            if "WrongClusterID" not in str(error):
                raise
            raise InfrastructureError(
                f"The head of the Ray cluster was started anew, and knows nothing of this driver. {AGAIN}"
            ) from error

    return asked


class Cluster:
    """A connection to Ray. One that this process had before is joined and left as it was."""

    def __init__(self, *, owned: bool, joined: bool) -> None:
        self.owned = owned
        """Started by us: ends with us."""
        self._joined = joined
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = host, int(port)
        self._node = ray.get_runtime_context().get_node_id()
        self._answered = self._probed = time.monotonic()
        # What we started does not come back; a standing head may restart, and running trials survive that.
        self._patience = 2 * PROBE_EVERY if owned else 30.0

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Start or join a cluster. Raises `UserError` where the given address cannot be used, and `InfrastructureError` where
        this machine cannot start one."""
        if ray.is_initialized():
            return cls(owned=False, joined=True)
        if settings.ray_address is None:
            _start(settings)
            return cls(owned=True, joined=False)
        _connect(settings.ray_address)
        return cls(owned=False, joined=False)

    @of_one_head
    def resources(self) -> dict[str, float]:
        """What the cluster has in all, in use or not."""
        return {name: float(amount) for name, amount in ray.cluster_resources().items()}

    def check(self) -> None:
        """Raise `InfrastructureError` when the head has been gone for too long; looks at most every two seconds.

        Ray itself says nothing for a minute after its head has died, and then ends the process.
        """
        now = time.monotonic()
        if now - self._probed < PROBE_EVERY:
            return
        self._probed = now
        if (why := why_unreachable(*self._head, timeout=PROBE_EVERY)) is None:
            self._answered = now
        elif now - self._answered >= self._patience:
            raise InfrastructureError(
                f"The head of the Ray cluster at {self._head[0]}:{self._head[1]} is gone: {why}. {AGAIN}"
            )

    @of_one_head
    def check_own_node(self) -> None:
        """Raise `InfrastructureError` when this machine's part of the cluster has died: nothing can be started any more."""
        if why_unreachable(*self._head, timeout=PROBE_EVERY) is not None:
            return  # asking a dead head for its nodes blocks; `check` sees to it
        if not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == self._node):
            raise InfrastructureError(
                f"Ray on this machine has died, and with it the driver's place in the cluster. {AGAIN}"
            )

    @of_one_head
    def start_worker(self, work: Work, plan: Plan) -> Any:
        """A new process for packs; it starts in the background, and is not replaced when it dies."""
        options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0}
        if not self.owned:
            # Our own nodes pass their environment on, and Ray has processes waiting that need no other.
            options["runtime_env"] = {"env_vars": _for_workers(own_code=False, no_gpu=plan.device == "cpu")}
        actor = ray.remote(Worker).options(num_cpus=plan.cpus, num_gpus=plan.gpus, **options)
        return actor.remote(work, plan.device, __version__, plan.workers)

    @of_one_head
    def share(self, value: object) -> Any:
        """Store something once; workers given what this returns see the value, arrays without a copy and read-only."""
        return ray.put(value)

    @of_one_head
    def answered(self, pending: Sequence[Any], timeout: float) -> list[Any]:
        """Which of the pending answers are there, waiting up to `timeout` seconds for the first."""
        there, missing = ray.wait(list(pending), num_returns=1, timeout=timeout)
        if there and missing:
            there, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
        return there

    @of_one_head
    def answer(self, pending: Any) -> tuple[Any, Trouble | None]:
        """The answer, or what came in its way."""
        try:
            return ray.get(pending), None
        except AuthenticationError:  # not of the trial
            raise
        except Exception as error:  # noqa: BLE001 - a task's own exception comes back as an instance of its class
            return None, judge(error)

    def kill(self, actor: Any) -> None:
        """End a worker, whatever it is doing; it may be dead already."""
        with contextlib.suppress(Exception):
            ray.kill(actor, no_restart=True)

    def close(self) -> None:
        """Leave the cluster; end it if it is ours. Never raises."""
        if not self._joined:
            with contextlib.suppress(Exception):
                ray.shutdown()


def _connect(address: str) -> None:
    tried = f"Ray address '{address}'"
    todo = (
        "Start a cluster with `ray start --head` (it prints its address), correct --ray-address or LOWDIM_BENCH_RAY_ADDRESS, "
        "or leave it out to use this machine alone."
    )
    if address != "auto":
        host, _, port = address.rpartition(":")
        if (why := why_unreachable(host, int(port), grpc=True)) is not None:
            raise UserError(f"{tried} cannot be reached: {why}. {todo}")
    _keep_the_job_to_ourselves()
    with _impatient():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            secret = os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
            raise UserError(
                f"{tried} could not be joined: {error}. Either it is not the head's port (6379 unless changed), or this "
                "machine is not part of the cluster, or the cluster's token is not the one here: it is looked for in "
                f"RAY_AUTH_TOKEN, then {secret}. {todo}"
            ) from error


def _start(settings: Settings) -> None:
    """A Ray instance of our own on this machine. Raises `InfrastructureError` where it does not come up."""
    # With more workers than cores the cores are shared; with none given Ray counts what this process may use.
    with _environment(_for_workers(own_code=True, no_gpu=settings.gpus_per_worker == 0)):
        try:
            ray.init(
                address="local",
                num_cpus=settings.workers,
                num_gpus=0 if settings.gpus_per_worker == 0 else None,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:  # of no kind of its own where the node does not answer within Ray's half minute
            ray.shutdown()
            raise InfrastructureError(
                f"Ray could not be started on this machine: {error} That happens where it is very busy, or short of memory "
                "or disk space. Run the same command again once there is room: finished trials are kept."
            ) from error


def _keep_the_job_to_ourselves() -> None:
    """Where this driver is a job, have workers start without its folder and its environment, which they would inherit: a
    submission's files must not lie where workers look for modules. Besides, a second node of the same machine would unpack
    the folder anew, under the feet of this process."""
    config = json.loads(os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR) or "{}")
    if config.pop("runtime_env", None):
        os.environ[RAY_JOB_CONFIG_JSON_ENV_VAR] = json.dumps(config)


def _for_workers(*, own_code: bool, no_gpu: bool) -> dict[str, str]:
    """What a worker's environment must say."""
    environment: dict[str, str] = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    if no_gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""  # a worker without a share of a GPU would see all of them
    if own_code:  # the workers run the code that the driver runs, from wherever it was imported
        here = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return environment


def _impatient() -> contextlib.AbstractContextManager[None]:
    """Have Ray try twice to connect, not twenty times, which takes up to ten minutes."""
    wanted = {"RAY_gcs_server_port_wait_time_s": "2", "RAY_py_gcs_connect_timeout_s": "5"}
    return _environment({name: value for name, value in wanted.items() if name not in os.environ})


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
