"""Faces in pictures: detected and aligned by dlib, with model files that are checked before they are read.

It may import ``models``, ``config`` and what they import. dlib is imported where a finder is loaded, because it is an
optional package.
"""
