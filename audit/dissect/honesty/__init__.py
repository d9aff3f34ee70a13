"""How far the features of a lens can be trusted, measured on the recording that the lens was made from.

It may import ``audit.dissect.build``, what that may import, and scipy.
"""
