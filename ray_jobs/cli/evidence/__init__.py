"""The commands that make an audit evidence for others: ``register``, ``bundle`` and ``verify``.

May import ``audit``, ``reports`` and what is below it in ``ray_jobs.cli``.
"""
