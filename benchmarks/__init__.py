"""Measurements of speed, run from a checkout as `python -m benchmarks.NAME`; see README.md here."""
