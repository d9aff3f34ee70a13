"""Runs an audit from a config to a report: lens, shards on the pool of workers, summary, MLflow; and analyses.

It may import ``ray_jobs.pool.actor_pool`` and ``ray_jobs.cluster.connection``.
"""
