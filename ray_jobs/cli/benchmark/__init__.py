"""The command ``benchmark``: its forecast, its run and its result.

It may import the modules of ``ray_jobs.cli`` below the commands.
"""
