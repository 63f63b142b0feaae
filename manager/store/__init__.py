"""The replicated state: tables of immutable objects, transactions, and the order in which both are seen.

Owns every stored row, the revision, the table of request ids and the bounded history that watches read.
Reads what the log commits (`Store.apply`, `Store.restore`); writes only through a `Proposer`. Decides nothing:
rows, their versions and their order come from the log, so that every manager holds the same state.
"""
