"""What a sweep would take, told before anything is spent: trainings, hours, memory, gradients of preparation."""

from lowdim_bench.forecast.sweeps import Forecast, Range, forecast

__all__ = ["Forecast", "Range", "forecast"]
