"""Preparations before the first shard: the lens, strengths, fitted methods, features of reference images.

It may import ``ray_jobs.run.parts``, ``ray_jobs.run.network``, ``ray_jobs.cluster`` and everything in ``audit``.
"""
