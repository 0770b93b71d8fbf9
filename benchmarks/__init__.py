"""Figures with their baselines, measured in one run on one server.

`python -m benchmarks NAME --json` prints them.
"""
