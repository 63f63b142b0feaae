"""Runs tasks as containers: image and snapshot, network, files and record at prepare, shim and runc at start.

Owns `tasks/<id>/container/` and, in the node's namespace of containerd, the container records and tasks. Meets images
and networks through protocols (`parts`), so that it works the same on fakes.
"""
