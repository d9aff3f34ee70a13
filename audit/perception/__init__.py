"""Classifies and embeds images: judges and embedders.

It may import ``models``, ``calibration``, ``planning``, ``measure`` and what they import.
"""
