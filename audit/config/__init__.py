"""What an audit is asked to do: its settings, and the YAML file that holds them, with every mistake at its place.

It may import ``storage`` and ``records``.
"""
