"""From images to groups and vectors: judges and embedders.

It may import ``models``, ``calibration``, ``planning``, ``measure`` and what they import.
"""
