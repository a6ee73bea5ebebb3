"""What every model used, hour by hour, so that its tenant can be billed and the costly one found.

It never holds up a request: the event loop adds to plain counters, a thread writes them down every
few seconds. What never bends: whoever was never ours gets no row, however many names are tried.
Beside `metrics` and `logs`; it calls nobody but `domain`, `config` and `errors`.
Not to be taken for `cache/ledger.py`, which is of the bytes in memory now.
"""
