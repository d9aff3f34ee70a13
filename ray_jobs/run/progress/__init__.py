"""How far a run is: what it shows, writes, logs and counts while it works.

It may import ``ray_jobs.pool.actor_pool``.
"""
