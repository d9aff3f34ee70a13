"""A file with several models under ``models``: its keys, and the audit of each model.

It may import everything in ``audit.config``, except for the file of a benchmark.
"""
