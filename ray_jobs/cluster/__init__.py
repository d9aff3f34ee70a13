"""Reaching a cluster: starting Ray or attaching to it, and submitting an audit to a remote one.

It may import ``audit``, but no other part of ``ray_jobs``.
"""
