"""Replicated services: how many tasks there are, which of them run, when they restart, and how updates roll.

Owns the creation of tasks, their desired state and restart fields, `Service.update_status`, and the deletion of
task and service version rows. Reads services, versions, nodes, and what workers report of tasks. Decisions are
pure (`restart`, `slot`, `reconcile`, `updater`, `history`, `fitness`); `loop`, `enforcer` and `reaper` carry them out.
"""
