"""Our pages in MLflow's server: routes of the same application, behind the same accounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lowdim_bench.tracking.inside import LiveStore

if TYPE_CHECKING:
    from flask import Blueprint


def beside_mlflow(pages: Blueprint, store: LiveStore, *, accounts: bool) -> Any:
    """MLflow's ASGI application with more pages. They answer GET alone, at paths without parameters.

    `accounts`: as `--app-name basic-auth`: a visitor without an account is refused, and one that may not read the experiment
    of `store` is refused on all of `pages`.
    """
    from mlflow.server import app as flask_app

    # Routes of Flask, and not of FastAPI: accounts are checked before each of these, and of those only before its own.
    before = set(_paths(flask_app))
    flask_app.register_blueprint(pages)
    added = [path for path in _paths(flask_app) if path not in before]
    if not accounts:
        from mlflow.server.fastapi_app import create_fastapi_app

        return create_fastapi_app(flask_app)
    from mlflow.server import auth

    for path in added:
        for verb in ("GET", "HEAD"):
            auth.BEFORE_REQUEST_VALIDATORS[path, verb] = _may_read(store)
    return auth.create_app(flask_app)


def _may_read(store: LiveStore) -> Callable[[], bool]:
    """Whether who asks may read the experiment; before there is one there is nothing to hide."""

    def check() -> bool:
        from flask import g
        from mlflow.server import auth

        experiment = store.experiment_id()
        if experiment is None:
            return True
        name = g.mlflow_authenticated_user  # whom it has let in before it asks this
        return auth._get_experiment_permission(experiment, name).can_read  # noqa: SLF001 - as for its own pages

    return check


def _paths(app: Any) -> list[str]:
    return [rule.rule for rule in app.url_map.iter_rules()]
