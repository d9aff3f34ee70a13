"""A YAML text from the user, read within limits as a tree whose nodes know their line, with overrides applied.

It may import ``audit.config.errors`` and ``audit.config.problems``.
"""
