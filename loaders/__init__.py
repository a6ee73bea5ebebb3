"""Frameworks: a directory in, a model out. Importable without mme; knows no asyncio and no HTTP.

Siblings of one shape behind the table in `find.py`. Loaders never import each other; a framework is
imported only when a model needs it, and a missing one says which extra to install. `contract.py` is
the shape.
"""
