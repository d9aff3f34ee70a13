"""The file of a benchmark: its sections, and the audits that it stands for.

It may import everything in ``audit.config``.
"""
