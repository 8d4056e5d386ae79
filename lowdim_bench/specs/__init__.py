"""Specifications: frozen Pydantic models of tasks, read from YAML, named by digests."""

from lowdim_bench.specs.base import Spec, canonical_json, digest_of, parse_yaml, read_yaml
from lowdim_bench.specs.catalogue import installed_tasks, load_task, task_names
from lowdim_bench.specs.task import TRACKS, Recipe, Target, Task, ThresholdSpec, Track, TrainingRecipe

__all__ = [
    "TRACKS", "Recipe", "Spec", "Target", "Task", "ThresholdSpec", "Track", "TrainingRecipe",
    "canonical_json", "digest_of", "installed_tasks", "load_task", "parse_yaml", "read_yaml", "task_names",
]  # fmt: skip
