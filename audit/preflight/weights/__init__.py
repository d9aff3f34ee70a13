"""The files of other authors that an audit needs: which ones, whether they are here, and the manifests of bundles.

It may import ``config``, ``models``, ``perception`` and ``storage``. Nothing is downloaded here.
"""
