"""The calibration model: worlds with planted, known bias, their renderer, and the bundled weights.

It may import ``config``, ``storage`` and ``records``.
"""
