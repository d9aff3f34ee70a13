"""The parts of ``run``, ``plan``, ``validate``, ``status`` and ``compare`` for several models.

It may import the modules of ``ray_jobs.cli`` below the commands.
"""
