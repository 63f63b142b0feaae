"""swarmpy: a Swarm-style cluster orchestrator.

This package holds the vocabulary that managers and workers share (model, errors, wire) and the user's
side (client, command line, stack files, supervisor). It imports neither `manager` nor `worker`.
"""

__version__ = "0.1.0"
