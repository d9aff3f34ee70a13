"""Diffusion models under audit: loading, sampling with one generator per image, hookpoints.

It may import ``calibration``, ``config``, ``storage`` and ``records``.
"""
