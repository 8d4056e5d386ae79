"""What a sweep would take, told before anything is spent: trainings, hours, memory, gradients of preparation.

Measured by a few steps here (`forecast`), or extrapolated to machines that are not here (`extrapolate`).
"""

from lowdim_bench.forecast.extrapolation import Extrapolation, extrapolate
from lowdim_bench.forecast.sweeps import Forecast, Range, forecast

__all__ = ["Extrapolation", "Forecast", "Range", "extrapolate", "forecast"]
