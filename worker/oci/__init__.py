"""The OCI runtime spec of a container, from its service's spec, its image's config and what the node can do. Pure.

Owns nothing and touches nothing: text and values in, a JSON-ready `dict` out. What has to be looked up first (accounts
of the root file system, sources of mounts, the network namespace) is an argument.
"""
