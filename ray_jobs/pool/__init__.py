"""A pool of Ray actors with limits on size, time and failures, and a policy for each kind of fault.

It may import ``ray_jobs.cluster.connection``.
"""
