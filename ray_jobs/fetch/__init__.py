"""Downloads what a config needs and makes an offline bundle of it.

It may import ``audit``. It needs no cluster.
"""
