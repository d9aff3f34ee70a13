"""The families of models that an audit can sample, one package each behind one registry.

It may import what is below it in ``audit.models``, but no generator.
"""
