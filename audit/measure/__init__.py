"""Statistics as pure functions of arrays, without models, paths or devices.

It may import ``records`` and nothing else of ``audit``.
"""
