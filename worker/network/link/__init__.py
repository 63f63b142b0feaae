"""Links of this node: its tasks' network namespaces, their way out, and the networks that join them over hosts.

Owns `run/netns/` and `network/` below the state directory, every link whose name begins with the node's prefix, and
the namespace `fabric`, where the node's networks are. Speaks rtnetlink; filters and translates nothing
(`worker.network.nft`).

A task's way out is a veth pair that is routed, not bridged: the host end holds the gateway's address, and the host one
route a task. So whatever leaves a task passes the host's rules once, with or without br_netfilter, and nothing but
those rules joins two tasks. Networks are bridges in a namespace of the node's own, which has no addresses, routes or
rules: no rule of the host (nor Docker's) sees their frames, and no way leads from one to another. Only the UDP sockets
of their VXLAN devices are the host's.

`names`, `pool`, `forwarding`, `mtu` and `messages` are pure; `namespace`, `rtnl` and `sysctl` are the edge; `joint`,
`gateway` and `fabric` use them; `links` puts them together for one thread, `thread` is that thread for asyncio.
"""
