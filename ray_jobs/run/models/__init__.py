"""The audits of several models, and their comparison.

It may import everything in ``ray_jobs.run``, except for a benchmark and a replay.
"""
