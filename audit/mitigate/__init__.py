"""Interventions against a bias: one module per method, behind the registry in ``registry``.

It may import ``dissect``, ``perception``, ``models``, ``planning``, ``config`` and ``records``.
"""
