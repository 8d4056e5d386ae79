"""What is stored of a sweep, recomputed and compared: nothing here imports a submission's code, or trusts what is recorded.

Found is whatever does not follow from the certificates, the task and the planner. Not found is a forgery of all of it at once:
an honest training's failures, and what preparation cost, are proven by running the method again alone.
"""

from lowdim_bench.verification.points import Points, read_points
from lowdim_bench.verification.report import Checked, Finding, Precision, Report
from lowdim_bench.verification.run import Bits, Verifier

__all__ = ["Bits", "Checked", "Finding", "Points", "Precision", "Report", "Verifier", "read_points"]
