"""Analyses of pictures that a user gives, read back through the model.

It may import ``audit.analyses.analysis``, ``audit.analyses.sketch``, ``models`` and what they import.
"""
