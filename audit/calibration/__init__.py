"""The calibration model: worlds with known, planted bias, their renderer, and the bundled weights.

It may import ``config``, ``storage`` and ``records``.
"""
