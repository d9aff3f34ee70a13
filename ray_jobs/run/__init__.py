"""One audit from a config to a report: its lens, its shards on the pool, and its way into MLflow.

It may import ``ray_jobs.pool.actor_pool`` and ``ray_jobs.cluster.connection``.
"""
