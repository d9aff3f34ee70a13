"""Statistics: pure functions of arrays, without a model, a path or a device.

It may import ``records`` and nothing else of ``audit``.
"""
