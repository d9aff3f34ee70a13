"""Manifests of a schedule for Kubernetes, KubeRay and systemd.

It may import ``ray_jobs.schedule.loop.cron``.
"""
