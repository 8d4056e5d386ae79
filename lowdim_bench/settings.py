"""Where things live and run: options first, then LOWDIM_BENCH_* variables, then defaults. Never part of a digest."""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

from lowdim_bench.errors import UserError

PREFIX = "LOWDIM_BENCH_"
SQLITE = "sqlite:///"
SERVERS = ("http://", "https://")
JOB_SERVER = "http://127.0.0.1:8265"
DATABASES = ("postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class Settings:
    """Everything about where a sweep runs and is kept, and nothing that decides a number."""

    tracking_uri: str
    artifact_location: str | None
    """Where a new experiment keeps its files; None leaves that to the MLflow server."""
    data_root: Path
    ray_address: str | None
    """None: a cluster of this command's own, on this machine."""
    workers: int | None
    """None: as many as the cluster has room for."""
    gpus_per_worker: float | None
    """None: a whole GPU each where the cluster has GPUs. 0: CPU only."""
    autoscaling: bool
    """The cluster grows on demand: ask for `workers` even though they do not fit yet."""
    state_dir: Path

    @classmethod
    def resolve(
        cls,
        *,
        tracking_uri: str | None = None,
        data_root: str | Path | None = None,
        ray_address: str | None = None,
        workers: int | str | None = None,
        gpus_per_worker: float | str | None = None,
        autoscaling: bool | None = None,
        state_dir: str | Path | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Options as given; where None, the environment; where that is silent, defaults. Raises `UserError`."""

        def choose(option: object, name: str, *fallbacks: str) -> str | None:
            if option is not None:
                return str(option)
            return next((environ[key] for key in (PREFIX + name, *fallbacks) if environ.get(key)), None)

        uri = _tracking_uri(choose(tracking_uri, "TRACKING_URI", "MLFLOW_TRACKING_URI"))
        flag = choose(autoscaling, "AUTOSCALING")
        return cls(
            tracking_uri=uri,
            artifact_location=_artifact_location(uri),
            data_root=_folder(choose(data_root, "DATA_ROOT"), environ, "XDG_CACHE_HOME", ".cache", "lowdim-bench/data"),
            ray_address=_ray_address(choose(ray_address, "RAY_ADDRESS", "RAY_ADDRESS")),
            workers=_workers(choose(workers, "WORKERS")),
            gpus_per_worker=_gpus(choose(gpus_per_worker, "GPUS_PER_WORKER")),
            autoscaling=_flag(flag) if flag is not None else False,
            state_dir=locate_state(state_dir, environ),
        )

    @property
    def shown_tracking_uri(self) -> str:
        """The tracking URI without its password, for messages."""
        return re.sub(r"(//[^/@:]*):[^@/]*@", r"\1:***@", self.tracking_uri)

    @property
    def sqlite_path(self) -> Path | None:
        """The file of a SQLite tracking store; None for any other."""
        if not self.tracking_uri.startswith(SQLITE):
            return None
        return Path(self.tracking_uri.removeprefix(SQLITE).partition("?")[0])

    @property
    def is_server(self) -> bool:
        """Whether tracking goes through an MLflow server rather than straight to a database."""
        return self.tracking_uri.startswith(SERVERS)


def locate_state(given: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for locks, secrets and installed requirements, on whatever machine asks."""
    chosen = str(given) if given is not None else environ.get(PREFIX + "STATE_DIR") or None
    return _folder(chosen, environ, "XDG_STATE_HOME", ".local/state", "lowdim-bench")


def _tracking_uri(given: str | None) -> str:
    """An absolute URI. Relative SQLite paths are made absolute, so that no later change of folder moves the store."""
    if given is None:
        return f"{SQLITE}{Path.cwd() / 'mlflow.db'}"
    if given.startswith(SQLITE) and (path := given.removeprefix(SQLITE).partition("?")[0]) and ":memory:" not in path:
        query = given.removeprefix(SQLITE)[len(path) :]
        return f"{SQLITE}{Path(path).expanduser().absolute()}{query}"
    if given.startswith(SERVERS):
        if not re.match(r"https?://[^/\s]+", given):
            raise UserError(f"Tracking URI '{given}' names no host. Write http://HOST:PORT.")
        return given.rstrip("/")
    if re.match(rf"({'|'.join(DATABASES)})(\+\w+)?://", given):
        return given
    raise UserError(
        f"Tracking URI '{given}' cannot be used. Valid: sqlite:///FILE, http(s)://HOST:PORT of an MLflow server, "
        f"or a database ({', '.join(DATABASES)}) that MLflow knows. Folders (file:, ./mlruns) are no longer stores in "
        "MLflow 3: move one with `mlflow migrate-filestore`."
    )


def _artifact_location(uri: str) -> str | None:
    """Beside a SQLite file, so that `mlflow ui` started in its folder shows everything; else in this folder."""
    if uri.startswith(SERVERS):
        return None
    folder = Path(uri.removeprefix(SQLITE).partition("?")[0]).parent if uri.startswith(SQLITE) else Path.cwd()
    return (folder / "mlartifacts").as_uri()


def _folder(given: str | None, environ: Mapping[str, str], base: str, home: str, name: str) -> Path:
    if given is not None:
        return Path(given).expanduser().absolute()
    return Path(environ.get(base) or Path.home() / home).absolute() / name


def _ray_address(given: str | None) -> str | None:
    """HOST:PORT or auto. `local` and nothing mean a cluster of one's own."""
    if given is None or given == "local":
        return None
    if given == "auto":
        return given
    if given.startswith("ray://"):
        raise UserError(
            f"Ray address '{given}' is a Ray Client address, and the driver must run inside the cluster. Log in to one of its "
            "nodes and give HOST:PORT of the head (port 6379 unless changed) or 'auto', or send the whole command there: "
            "ray job submit --address http://HOST:8265 -- lowdim-bench run ..."
        )
    host, _, port = given.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in host:
        raise UserError(
            f"Ray address '{given}' is not HOST:PORT. Give that of the head (port 6379 unless changed), or 'auto'."
        )
    return given


def _workers(given: str | None) -> int | None:
    if given is None:
        return None
    if not given.isdecimal() or int(given) < 1:
        raise UserError(
            f"Number of workers '{given}' is not valid: give a whole number of at least 1 (--workers, {PREFIX}WORKERS)."
        )
    return int(given)


def _gpus(given: str | None) -> float | None:
    if given is None:
        return None
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UserError(
            f"GPUs per worker '{given}' is not valid: give 0 (CPU only) up to 1, such as 0.25 for four workers on a GPU "
            f"(--gpus-per-worker, {PREFIX}GPUS_PER_WORKER)."
        )
    return value


def _flag(given: str) -> bool:
    word = given.lower()
    if word not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        raise UserError(f"{PREFIX}AUTOSCALING is '{given}'; give 1 or 0.")
    return word in {"1", "true", "yes", "on"}


def resolve_job_server(given: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Where a standing cluster takes jobs, http(s)://HOST:PORT: an option, else the environment, else Ray's dashboard on this
    machine. Raises `UserError`."""
    found = given or environ.get(f"{PREFIX}JOB_SERVER") or environ.get("RAY_API_SERVER_ADDRESS") or JOB_SERVER
    if not re.match(r"https?://[^/@\s]+/?$", found):
        raise UserError(
            f"Job server '{found}' cannot be used. Valid: http(s)://HOST:PORT of the cluster's dashboard (port 8265 unless "
            f"changed; --address, {PREFIX}JOB_SERVER). Where it listens on the head's loopback alone, bring it here first: "
            "ssh -L 8265:127.0.0.1:8265 HEAD"
        )
    return found.rstrip("/")


def prepare_environment(settings: Settings) -> None:
    """Set what Ray and MLflow read when they are imported; whatever is set already stays. Raises `UserError`.

    To be called once, at the start of the process, before either is imported.
    """
    try:
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder for locks and secrets, {settings.state_dir}, cannot be made: {error.strerror}. "
            f"Give another one with {PREFIX}STATE_DIR."
        ) from None
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default a call to a dead server blocks for four minutes
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }.items():
        os.environ.setdefault(name, value)
    if "ray" not in sys.modules:  # which has read its mode, and protects a new cluster with a token in the home
        os.environ.setdefault(
            "RAY_AUTH_MODE", "token"
        )  # clients of a standing cluster do not turn this on by themselves
    has_token = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if os.environ.get("RAY_AUTH_MODE") != "token" or has_token:
        return
    if settings.ray_address is not None and (Path.home() / ".ray" / "auth_token").exists():
        return  # a standing cluster's secret: Ray looks there by itself
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(_ray_token(settings.state_dir))


def _ray_token(state_dir: Path) -> Path:
    """The file of this user's own secret for Ray, made if need be: complete, private, and once, whoever else makes it."""
    path = state_dir / "ray_auth_token"
    if not path.exists() or path.stat().st_size == 0:
        draft = state_dir / f"ray_auth_token.{secrets.token_hex(8)}"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - a descriptor
            file.write(secrets.token_hex(32))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            if path.stat().st_size == 0:  # not ours: we never leave it empty
                draft.replace(path)
        draft.unlink(missing_ok=True)
    path.chmod(0o600)
    return path


@contextmanager
def quiet_stdout() -> Iterator[TextIO]:
    """Send whatever anyone writes to standard output to standard error, and lend the real standard output as a stream.

    Ray prints errors of its processes on the driver's stdout, from threads and whatever its log level. Only a descriptor
    of one's own keeps the output of `--json` pure; child processes started meanwhile inherit the redirection.
    """
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(real), "w", encoding="utf-8") as out:
            yield out
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)


def why_unreachable(host: str, port: int, timeout: float = 5.0, *, grpc: bool = False) -> str | None:
    """Why nothing can be reached at host:port, or None where something answers there.

    With `grpc`, what answers must speak HTTP/2: the client's preface and empty settings have to be met by settings.
    """
    try:
        with socket.create_connection((host.strip("[]"), port), timeout) as connection:
            if not grpc:
                return None
            connection.settimeout(timeout)
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            header = connection.recv(9)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return None if header[3:4] == b"\x04" else "what listens there does not speak gRPC"
