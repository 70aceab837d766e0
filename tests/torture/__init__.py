"""Attacks on a running service, each bounded in time: ``make torture`` runs them, and each fails on a breach.

They are programs and no tests: most take minutes and measure time. Each prints a table, writes a CSV into
``benchmarks/results`` with ``--write``, and exits with 1 if a limit is passed.
"""
