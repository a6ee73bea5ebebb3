"""Is the model in memory: leases, single flight, and a ledger of bytes.

What never bends: reserved + resident + leaving <= budget; a leased model is never evicted; one load
per model version, which outlives who asked for it. `loading.py` alone knows both the store and
the workers; `ledger.py` decides, pure.
"""
