"""Calibration: is what the benchmark reports right where the answer is known?"""
