"""The benchmark: black box over HTTP, in processes of its own.

What never bends: nothing of mme or loaders is imported, a server is started as a user would; every
answer is compared with an offline prediction; the generator's own ceiling stands beside what it
measured; where others are faster is printed too. `simulate.py` alone is of another kind: it has no
server, and replays traffic by the ledger and the policies of mme itself.

A scenario is a module beside this one and a row in `__main__.py`: `steady.py` is the pattern.
"""
