"""Finished runs side by side: what changed between two of them, and in a series.

It may import ``results.gates``, ``planning``, ``measure``, ``storage`` and ``records``.
"""
