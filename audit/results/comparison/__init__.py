"""Comparison of finished runs: changes between two runs, and in a series of runs.

It may import ``results.gates``, ``planning``, ``measure``, ``storage`` and ``records``.
"""
