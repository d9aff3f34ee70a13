"""Runs an audit on Ray: the only package that imports ray.

It may import ``reports`` and ``audit``; inside it imports go from ``cli`` and ``schedule`` over ``run`` and
``pool`` down to ``cluster``.
"""
