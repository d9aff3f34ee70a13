"""What travels between the steps of an audit: frozen records, and nothing else.

Only the standard library is imported here, so that planning and validating a config stays instant.
"""
