"""The threshold training dimension k* from successes and failures: its estimate, its interval and the design of the search."""

from lowdim_bench.threshold.curve import success_curve
from lowdim_bench.threshold.estimation import Assessment, assess, estimate
from lowdim_bench.threshold.pairing import bootstrap_log_thresholds, paired_log_ratios

__all__ = ["Assessment", "assess", "bootstrap_log_thresholds", "estimate", "paired_log_ratios", "success_curve"]
