"""Gives services what is scarce in the whole cluster: a VIP index and published ports.

Owns `Service.endpoint`, `allocated_for` and `allocation_problem`, and moves tasks from NEW to PENDING once their
service has what it needs. Reads services and tasks. Host ports of tasks are the workers' business.
"""
