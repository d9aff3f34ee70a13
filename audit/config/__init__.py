"""The config of an audit: its settings, the YAML file that holds them, and the errors in it with line and column.

It may import ``storage`` and ``records``.
"""
