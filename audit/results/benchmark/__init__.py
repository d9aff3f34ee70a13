"""The figures of a benchmark: one row for each model, attribute and method, and whether rankings agree.

It may import the packages below ``audit.results``, and its other modules.
"""
