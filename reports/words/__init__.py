"""Sentences and formats that describe the result of an audit.

It may import ``audit``.
"""
