"""File storage: local paths and object stores behind one interface, and the run directory.

It may import ``records`` and nothing else of ``audit``.
"""
