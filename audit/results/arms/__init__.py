"""Compares arms: with a joint target, with texts of groups, and with each other where their prompts differ in one word.

It may import ``records``, ``measure``, ``planning`` and the rows and changes of an arm.
"""
