"""nf_tables and connection tracking over netlink: ports published on the host, VIPs in a task's namespace.

No program is called for a change. Pure below (`attributes`, `expressions`, `batch`, `phrases`), then the socket
(`sock`) and what reads (`dump`), then the tables: `host` (one a node: `swarmpy_<key>`), `forwarding` (accept rules
among another firewall's), `vips` (one a task's namespace: `swarmpy`), and `conntrack`. What is in force is kept by the
kernel and read back by whoever comes after a restart; nothing is stored on disk.
"""
