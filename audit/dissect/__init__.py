"""Analyses the inside of a model: sparse autoencoder, group heads, attribution, lens.

It may import ``perception``, ``models``, ``planning``, ``calibration``, ``config``, ``storage`` and ``records``.
"""
