"""The leaderboard as a page: beside the MLflow interface, and as one file that opens anywhere."""

from lowdim_bench.pages.content import Content, Shown, collect, facts_about
from lowdim_bench.pages.diagnosed import of_diagnosis
from lowdim_bench.pages.document import render_page, render_report
from lowdim_bench.pages.files import named_figures, save_figures

__all__ = [
    "Content",
    "Shown",
    "collect",
    "facts_about",
    "named_figures",
    "of_diagnosis",
    "render_page",
    "render_report",
    "save_figures",
]
