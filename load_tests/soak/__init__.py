"""Hours of everything at once: traffic, overwrites, faults and bad clients on one small server.

Every answer is checked and every error held against the faults that were injected while its request
ran (`book.py`); what the server holds is looked at meanwhile and, when all is quiet, compared with
the truth. Nothing of mme is imported.
"""
