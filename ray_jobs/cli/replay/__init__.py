"""The command ``replay``: a finished run made again, and its rows compared.

It may import the modules of ``ray_jobs.cli`` below the commands.
"""
