"""The same audit on a calendar: due times, slots, leases and alerts.

It may import ``ray_jobs.run.audit``.
"""
