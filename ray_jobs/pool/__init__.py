"""A bounded pool of actors: its limits, and what it does about each kind of fault.

It may import ``ray_jobs.cluster.connection``.
"""
