"""The benchmark: black box over HTTP, in processes of its own.

What never bends: a server is started as a user would, and asked as any client asks; every answer is
compared with an offline prediction; the generator's own ceiling stands beside what it measured;
where others are faster is printed too. What asks a server imports nothing of mme or loaders, but in
`floor.py` and `compiled.py`, which time parts of an answer in their own process by loaders' own
calls beside the framework's. `simulate.py` with its traces is of another kind: it has no server,
and replays traffic by the ledger and the policies of mme itself.

A scenario is a module beside this one and a row in `__main__.py`: `steady.py` is the pattern.
"""
