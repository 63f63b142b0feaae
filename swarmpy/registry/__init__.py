"""Registries of images: references, manifests, the distribution protocol over HTTP, and its credentials.

Owns no state of a node. Reads and writes the user's Docker configuration file (`docker_config`), and talks to
registries (`client`, which imports aiohttp: commands load it when they need it). What is decided is pure: `reference`,
`platforms`, `manifests`, `challenge`, `failures`. Settings are arguments (`settings`).
"""
