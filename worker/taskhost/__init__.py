"""The task host: the one parent of all process tasks of a node, so that they outlive everything else of it.

Owns `taskhost/` (lock and journal) and `run/taskhost.sock`. Reads `/proc` and asks the supervisor for exits
that it missed. Imports the standard library only, and little of that. Its control groups, FIFOs and work
directories are made and removed by the worker.
"""
