"""The command line: commands, options, and the format of results and errors.

It may import everything.
"""
