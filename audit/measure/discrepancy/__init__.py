"""Distances of group shares from the target: estimates, intervals, tests and changes.

It may import ``measure.shares``, ``measure.prompts`` and ``measure.inference``.
"""
