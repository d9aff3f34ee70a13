"""What an audit found, in words.

It may import ``audit``.
"""
