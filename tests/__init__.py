"""Tests of mme, a regular package: some library installs a `tests` of its own, which would win."""
