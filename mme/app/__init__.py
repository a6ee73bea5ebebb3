"""The composition root: builds every part once from Config and stops them in reverse order.

`engine.py` is everything behind the front; what it puts together stands beside it: the source of
models, the built-in engine, the containers of an endpoint. Nothing else constructs parts.
"""
