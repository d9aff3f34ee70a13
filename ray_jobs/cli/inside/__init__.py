"""Commands that look inside a model: its hookpoints, and where it decides an attribute.

It may import ``audit`` and the rest of ``ray_jobs.cli``.
"""
