"""Gives out what is scarce in the whole cluster: VIP indexes, published ports, subnets, and addresses on networks.

Owns what a network has beyond its spec, `Service.endpoint`, `allocated_for`, `allocation_problem` and `Task.networks`,
and moves tasks from NEW to PENDING once they and their service have what they need. Reads networks, services, service
versions, tasks, nodes' addresses and the cluster's settings. Host ports of tasks are the workers' business.
"""
