"""Analyses of pictures that show several people.

It may import ``audit.analyses.analysis``, ``audit.analyses.pictures``, ``perception`` and what they import.
"""
