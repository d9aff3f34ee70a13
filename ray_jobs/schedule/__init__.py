"""Scheduled audits: due times, slots, leases and alerts.

It may import ``ray_jobs.run.audit``.
"""
