"""The command line: one file a command, gathered by `main.py`, the door that errors leave by.

What never bends: an operator's mistake gets one line that names it, and never a traceback. It may
call `app`; `pack`, `invoke`, `models` and `demo` are clients and start no part of the server.
"""
