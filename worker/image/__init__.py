"""The node's images: fetched from registries into containerd, unpacked into snapshots, listed, tagged, removed, moved.

Owns what containerd keeps in the node's namespace as content, image records and committed snapshots, and the snapshots
of containers (`Images.snapshot`), which others name but do not make. Reads registries through `swarmpy.registry`.
Nothing is kept in files of our own: all of it can be found in containerd again after a kill.
"""
