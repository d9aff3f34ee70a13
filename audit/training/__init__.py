"""Trains the calibration model and measures the trained weights.

It may import ``calibration``, ``models`` and what they import. No audit needs it.
"""
