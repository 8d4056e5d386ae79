"""The leaderboard as a page: beside the MLflow interface, and as one file that opens anywhere."""

from lowdim_bench.pages.content import Content, collect, facts_about
from lowdim_bench.pages.document import render_page, render_report

__all__ = ["Content", "collect", "facts_about", "render_page", "render_report"]
