"""Connection to a Ray cluster, local or remote, and submission of audits to a remote one.

It may import ``audit``, but no other part of ``ray_jobs``.
"""
