"""Parsers under garbage: their own error or a sound result, and nothing else.

A short run by hypothesis is part of every suite; what once failed stays as an `@example`. Longer:
`MME_FUZZ_EXAMPLES=200000 python -m pytest --timeout 0 tests/fuzz`. `python -m tests.fuzz --seconds
3600` bends what is in `corpus/` for as long as one likes, and keeps to what reaches new lines.
"""
