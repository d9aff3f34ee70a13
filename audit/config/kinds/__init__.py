"""Kinds of models and judges that the sections of a config refer to.

It may import ``audit.config.fields`` and what is below it.
"""
