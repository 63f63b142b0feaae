"""The user's API: use cases, and servicers that only translate.

Owns what users may change: specs, node availability, role and labels, the cluster's settings and tokens. Reads
everything; writes through store transactions, each under the caller's request id.
"""
