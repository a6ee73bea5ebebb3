"""Parsers under garbage: their own error or a sound result, and nothing else.

A short run is part of every suite. Longer, by hand:
`MME_FUZZ_EXAMPLES=200000 python -m pytest --timeout 0 tests/fuzz`.
What once failed stays as an `@example`.
"""
