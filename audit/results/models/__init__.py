"""Comparison of several models by their finished runs: figures side by side, differences, places.

It may import the packages below ``audit.results``, and ``results.comparison`` and ``results.gates``.
"""
