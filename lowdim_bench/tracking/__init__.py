"""The store of record: sweeps, trials and thresholds in MLflow. Only the driver writes.

All calls of MLflow are in `connection`, which is imported only after `prepare_environment`.
"""

from lowdim_bench.tracking.claim_log import ClaimLog, ClaimStore, StoredVerdict, recorded_verdicts
from lowdim_bench.tracking.credit import Credit
from lowdim_bench.tracking.store import Store, StoredSweep
from lowdim_bench.tracking.sweep_log import SweepLog

__all__ = ["ClaimLog", "ClaimStore", "Credit", "Store", "StoredSweep", "StoredVerdict", "SweepLog", "recorded_verdicts"]
