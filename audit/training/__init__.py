"""Trains the calibration model and measures what the trained weights do.

It may import ``calibration``, ``models`` and what they import. No audit needs it.
"""
