"""The command line: commands, their options, and how they answer.

It may import everything.
"""
