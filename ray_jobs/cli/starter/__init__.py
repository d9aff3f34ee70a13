"""The ``init`` command: writes a commented starter config.

It may import ``audit`` and the rest of ``ray_jobs.cli``.
"""
