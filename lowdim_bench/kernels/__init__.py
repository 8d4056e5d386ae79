"""Compiled loops for CPUs (Numba), in float32: what torch would do in many small calls, done in one. No torch in here.

Each has a twin in torch, which runs on other devices and in other precisions and which tests compare it with. All work trial
by trial, so that a trial's numbers are the same, bit for bit, in whatever pack it runs.
"""
