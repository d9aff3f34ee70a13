"""Commands for the weights of other authors that a config names.

It may import ``audit``, ``ray_jobs.fetch`` and the rest of ``ray_jobs.cli``.
"""
