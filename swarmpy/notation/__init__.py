"""The text forms in which people write parts of a spec: ports, `KEY=value` pairs, limits, probes.

Shared by the command line and by stack files, so that both read the same text alike. Pure functions from text to
structs of `swarmpy.model`; every error is an INVALID_ARGUMENT sentence without the flag or the file's line, which
the caller adds.
"""
