"""Judges: classifiers of perceived groups, the groups that each supports, and their confusion matrices.

It may import ``perception.embedders`` and the same packages as ``perception``.
"""
