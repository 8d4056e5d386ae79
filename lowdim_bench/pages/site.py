"""The leaderboard beside the MLflow interface: routes of MLflow's own server, which this module makes the applications of."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, redirect, request

from lowdim_bench.claims.scoreboard import Decided, newest
from lowdim_bench.leaderboard import Measurements
from lowdim_bench.pages.content import Content, collect, facts_about
from lowdim_bench.pages.document import page_policy, render_page, vega_script
from lowdim_bench.tracking.inside import LiveStore
from lowdim_bench.tracking.plugin import beside_mlflow
from lowdim_bench.tracking.views import saved_view

if TYPE_CHECKING:
    from lowdim_bench.tracking import StoredSweep, StoredVerdict

PATH = "/leaderboard"
TITLE = "lowdim-bench leaderboard"
_FIRST_SECONDS, _NEXT_SECONDS = 3.0, 0.15
"""How long a visitor waits for the first edition, and for one that is newer than the last."""
_YEAR = 365 * 24 * 3600
_WAIT = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<title>Leaderboard</title></head><body><p>The leaderboard is being computed. This page reloads by itself.</p></body></html>"""

log = logging.getLogger(__name__)


def create(*, accounts: bool) -> Any:
    """MLflow's application with the leaderboard in it, open to whoever reaches it or behind MLflow's accounts."""
    store = LiveStore()
    return beside_mlflow(blueprint(Editions(store)), store, accounts=accounts)


@dataclass(frozen=True)
class Edition:
    """The page as it was at one moment."""

    content: Content
    html: str
    json: str

    @classmethod
    def of(
        cls,
        sweeps: Sequence[StoredSweep],
        experiment: str | None,
        measurements: Measurements,
        claims: Sequence[Decided] = (),
    ) -> Edition:
        def link(run_id: str) -> str | None:
            return None if experiment is None else f"./#/experiments/{experiment}/runs/{run_id}"

        content = collect(sweeps, TITLE, facts_about("this server"), link, measurements, claims)
        board = json.dumps(content.board.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
        return cls(content, render_page(content, PATH.removeprefix("/")), board)


class Editions:
    """The newest edition, remade in the background whenever a visitor comes and the store has changed.

    A visitor never waits longer than `_NEXT_SECONDS` where there is an edition: it may be as old as the last visit.
    """

    def __init__(self, store: LiveStore) -> None:
        self._store, self._measurements = store, Measurements()
        self._lock = threading.Lock()
        self._done: threading.Event | None = None
        self._sweeps: Sequence[StoredSweep] | None = None
        self._verdicts: Sequence[StoredVerdict] = ()
        self._latest: Edition | None = None
        self._failure: Exception | None = None

    def begin(self) -> threading.Event:
        """Look whether there is anything new, unless somebody does; the event is set when that is known, and made."""
        with self._lock:
            if self._done is None or self._done.is_set():
                self._done = threading.Event()
                threading.Thread(target=self._make, args=(self._done,), daemon=True).start()
            return self._done

    def current(self) -> Edition | None:
        """The newest edition; None where the first is not made yet. Raises what making it raised, where there is none."""
        self.begin().wait(_FIRST_SECONDS if self._latest is None else _NEXT_SECONDS)
        if self._latest is None and self._failure is not None:
            raise self._failure
        return self._latest

    def experiment_id(self) -> str | None:
        return self._store.experiment_id()

    def _make(self, done: threading.Event) -> None:
        try:
            sweeps, verdicts = self._store.sweeps(), self._store.verdicts()
            same = self._sweeps is not None and [id(one) for one in sweeps] == [id(one) for one in self._sweeps]
            if not same or verdicts != self._verdicts:
                claims = newest(verdicts)
                self._latest = Edition.of(sweeps, self._store.experiment_id(), self._measurements, claims)
                self._sweeps = sweeps  # held, so that no new sweep can have the id of an old one
                self._verdicts = verdicts
            self._failure = None
        except Exception as error:
            self._failure = error
            log.exception("The leaderboard could not be made.")
        finally:
            done.set()


def blueprint(editions: Editions) -> Blueprint:
    """The routes. All are read with GET, and none has a parameter in its path: MLflow looks their rules up by it."""
    pages = Blueprint("lowdim-bench", __name__)

    @pages.get(PATH)
    def leaderboard() -> Response:
        edition = editions.current()
        if edition is None:
            return _later("text/html", _WAIT)
        response = _cached(edition.html, "text/html")
        response.headers["Content-Security-Policy"] = page_policy()
        return response

    @pages.get(f"{PATH}.json")
    def board() -> Response:
        edition = editions.current()
        if edition is None:
            return _later(
                "application/json", '{"error": "The leaderboard is being computed. Try again in a moment."}\n'
            )
        return _cached(edition.json, "application/json")

    @pages.get(f"{PATH}/figure")
    def figure() -> Response:
        edition, name = editions.current(), request.args.get("name", "")
        found = None if edition is None else next((one for one in edition.content.shown if one.name == name), None)
        if found is None:
            return Response(
                '{"error": "There is no such figure. Reload the page."}\n', 404, mimetype="application/json"
            )
        return _cached(json.dumps(found.specification, allow_nan=False), "application/json")

    @pages.get(f"{PATH}/comparisons")
    def comparisons() -> Response:
        edition = editions.current()
        return _cached(json.dumps({} if edition is None else edition.content.comparisons), "application/json")

    @pages.get(f"{PATH}/vega.js")
    def vega() -> Response:
        response = Response(vega_script(), mimetype="text/javascript")
        response.headers["Cache-Control"] = f"private, max-age={_YEAR}, immutable"
        return response

    @pages.get(f"{PATH}/runs")
    def runs() -> Any:
        """To the saved view of MLflow's own interface, whatever the number of the experiment."""
        experiment = editions.experiment_id()
        return redirect("../" if experiment is None else f"../{saved_view(experiment)}")

    return pages


def _cached(text: str, kind: str) -> Response:
    """A response that a browser keeps, and asks each time whether it still holds."""
    response = Response(text, mimetype=kind)
    response.headers["Cache-Control"] = "private, no-cache"
    response.set_etag(hashlib.sha256(text.encode()).hexdigest()[:32])
    response.make_conditional(request)
    return response


def _later(kind: str, text: str) -> Response:
    return Response(text, 503, {"Retry-After": "2"}, mimetype=kind)
