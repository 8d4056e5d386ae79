"""Packs of trials on worker processes, always through Ray: its own cluster on this machine, or one that stands already."""

from lowdim_bench.execution.executor import Executor
from lowdim_bench.execution.jobs import Finished, Job
from lowdim_bench.execution.worker import Answer, Work

__all__ = ["Answer", "Executor", "Finished", "Job", "Work"]
