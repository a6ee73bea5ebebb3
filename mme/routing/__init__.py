"""Which container answers: an immutable catalog, a pure choice, the walk over those chosen.

One deadline holds for the whole walk. It may call containers, and nothing behind them.
"""
