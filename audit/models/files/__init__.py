"""What a model's files hold, checked before a loader reads them.

It may import ``storage``.
"""
