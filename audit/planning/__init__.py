"""Plans an audit: prompts, shards, targets, and what a number of images can detect.

It may import ``config``, ``measure``, ``storage`` and ``records``. No model is loaded.
"""
