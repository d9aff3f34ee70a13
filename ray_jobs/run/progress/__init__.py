"""Progress of a run: what is shown, written, logged and counted while it runs.

It may import ``ray_jobs.pool.actor_pool``.
"""
