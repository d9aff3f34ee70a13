"""A first config: the command that asks for it, and its commented text.

It may import ``audit`` and the rest of ``ray_jobs.cli``.
"""
