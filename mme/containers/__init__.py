"""What answers: one small interface, `invoke(Invocation) -> Reply`.

The built-in engine leases a model from the cache and predicts in the pool. It may call cache and
workers.
"""
