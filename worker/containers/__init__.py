"""Containers that users start on this node, in a cluster or not; and what users may do with those of services.

Owns `worker/containers/` below the state directory, one record a container: what was asked for and what became of it.
Running one is the task runner's business, as for tasks of services: a container is given to it anew for each run, with
the same id, so that its writable layer and its log go on. Decisions are in `life` and `restart`, which are pure.
"""
