"""The balancer: accepts on published ports and VIPs, and carries connections to ready tasks in strict turn.

Owns its listening descriptors (given by the data plane process), every connection through them, and their
counters. Reads endpoints as the data plane passes them on. Writes nothing to disk. DESIGN.md says how a
connection is served and what was measured.
"""
