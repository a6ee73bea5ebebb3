"""Which container answers: an immutable catalog, a pure choice, and the walk over the containers chosen.

One deadline holds for the whole walk. It may call containers, and nothing behind them.
"""
