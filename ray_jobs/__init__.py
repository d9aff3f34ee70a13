"""Runs audits on Ray: the command line, schedules and the worker pool. No other package imports ray.

It may import ``reports`` and ``audit``. Imports inside it go from ``cli`` and ``schedule`` over ``run`` and
``pool`` down to ``cluster``.
"""
