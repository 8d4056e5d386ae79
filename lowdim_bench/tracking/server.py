"""MLflow's server with the leaderboard in it: behind accounts of its own unless told otherwise, and on loopback."""

from __future__ import annotations

import configparser
import io
import os
import re
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from lowdim_bench.errors import UserError
from lowdim_bench.settings import SQLITE, Settings, prepare_environment

ADMIN = "admin"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
OPEN_APP, ACCOUNTS_APP = "lowdim-bench", "lowdim-bench-accounts"
"""Entry points of this package in MLflow's group `mlflow.app`: its server with the leaderboard in it."""
_REMEMBER_SECONDS = 60
"""How long a password that was right is not hashed again, which takes longer than most requests."""


@dataclass(frozen=True)
class Server:
    """What is started: the command, what its environment adds, and where its files are. Neither shows a secret in `ps`."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    url: str
    credentials: Path | None
    """Name and password of the administrator, as MLflow's clients read them from ~/.mlflow/credentials; None without
    accounts."""

    @property
    def leaderboard(self) -> str:
        """Where people look."""
        return f"{self.url}/leaderboard"

    def start(self) -> NoReturn:
        """Become the server. Raises `UserError` where its tables cannot be made."""
        os.environ.update(self.environment)
        _make_tables(self.environment["MLFLOW_BACKEND_STORE_URI"])
        os.execv(self.command[0], self.command)  # noqa: S606 - no shell is wanted


def plan_server(settings: Settings, *, artifacts: str | None, host: str, port: int, accounts: bool = True) -> Server:
    """The server of a tracking store (SQLite or a database), with its secrets made at the first call and kept after that.

    `artifacts`: folder, or URI of a bucket, for the files of runs; None: beside a SQLite store, else in the state folder.
    `accounts`: refuse who has none; without them it listens on loopback alone, where every account of this machine may write.
    Raises `UserError` for a store that is a server itself, a missing driver, or a port that is taken.
    """
    if settings.is_server:
        raise UserError(
            f"--store {settings.shown_tracking_uri} is a server already. Give what it shall keep its runs in: "
            "postgresql://USER@HOST/DATABASE, or sqlite:///FILE."
        )
    if not accounts and host not in LOOPBACK:
        raise UserError(
            f"A server without accounts on {host} would let anybody write who reaches it. Leave out --no-accounts, or --host."
        )
    needed = {"flask_wtf": ("mlflow[auth]", accounts)}
    needed["psycopg"] = ("psycopg[binary]", settings.tracking_uri.startswith("postgresql"))
    for module, (package, wanted) in needed.items():
        if wanted and find_spec(module) is None:
            raise UserError(f"The server needs {package}, which is not installed here: pip install '{package}'")
    _check_port(host, port)
    prepare_environment(settings)
    beside = settings.sqlite_path.parent if settings.sqlite_path else settings.state_dir
    files = artifacts or str(beside / "mlartifacts")
    options = {
        "--app-name": ACCOUNTS_APP if accounts else OPEN_APP,
        "--host": host,
        "--port": str(port),
        "--workers": "1",  # several add 40 ms to every request, and the work is the database's anyway
        "--artifacts-destination": files if "://" in files else str(Path(files).absolute()),
    }
    secret, credentials = _accounts(settings) if accounts else ({}, None)
    return Server(
        command=(sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)),
        environment={"MLFLOW_BACKEND_STORE_URI": settings.tracking_uri, **secret},
        url=f"http://{host}:{port}",
        credentials=credentials,
    )


def _accounts(settings: Settings) -> tuple[dict[str, str], Path]:
    """What the environment of a server with accounts adds, and the file with its administrator's name and password."""
    folder = settings.state_dir / "server"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = _kept(folder / "admin_password", "MLFLOW_AUTH_ADMIN_PASSWORD")
    key = _kept(folder / "secret_key", "MLFLOW_FLASK_SERVER_SECRET_KEY")
    credentials = _private(
        folder / "credentials", _ini(mlflow_tracking_username=ADMIN, mlflow_tracking_password=password)
    )
    # Accounts lie in the same database: what restores one restores the other. A SQLite store stays as it is.
    users = settings.tracking_uri if settings.sqlite_path is None else f"{SQLITE}{folder / 'users.db'}"
    accounts = _ini(
        default_permission="READ",
        database_uri=users,
        admin_username=ADMIN,
        auth_cache_ttl_seconds=str(_REMEMBER_SECONDS),
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(_private(folder / "accounts.ini", accounts)),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": key,
    }
    return environment, credentials


def _check_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise UserError(
            f"The server cannot listen on {host}:{port}: {error.strerror or error}. Give another --port, or stop what listens "
            "there."
        ) from None


def _make_tables(uri: str) -> None:
    """In this one process, before any other comes: several at once leave a database that can never be opened again."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        create_engine(uri).connect().close()  # once: MLflow would try for minutes
        MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        shown = re.sub(r"(//[^/@:]*):[^@/]*@", r"\1:***@", uri)
        why = re.sub(r"(//[^/@:]*):[^@/]*@", r"\1:***@", str(error)).strip().splitlines()[0]
        raise UserError(
            f"The store {shown} cannot be opened: {why}. Start the database, correct --store or LOWDIM_BENCH_STORE, and give "
            "its password in PGPASSWORD or ~/.pgpass."
        ) from None


def _kept(path: Path, variable: str) -> str:
    """A secret of this server: that of the environment, else the one that was made at the first call."""
    if given := os.environ.get(variable):
        return given
    if not path.exists() or not path.read_text().strip():
        _private(path, secrets.token_urlsafe(32))
    return path.read_text().strip()


def _private(path: Path, text: str) -> Path:
    """A file that nobody else can read, at any moment."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
    return path


def _ini(**values: str) -> str:
    file = configparser.RawConfigParser()
    # MLflow's reader takes a percent sign for the begin of a reference.
    file["mlflow"] = {name: value.replace("%", "%%") for name, value in values.items()}
    text = io.StringIO()
    file.write(text)
    return text.getvalue()
