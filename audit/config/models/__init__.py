"""A file with several models under ``models``: its keys, and the audit of each model that it stands for.

It may import everything in ``audit.config``, except for the file of a benchmark.
"""
