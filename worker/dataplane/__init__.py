"""The data plane process: DNS and balancer of a node. User traffic never waits for control work.

Owns `dataplane/` in the state directory (the last endpoints), `run/dataplane.sock`, and every port that users'
traffic comes in by. Reads what the worker sends on that socket; writes nothing else. See worker/DESIGN.md.

`endpoints`, `protocol`, `dns.wire`, `dns.zone`, `dns.answers` are pure; `plane` puts the parts together;
`client` is the worker's end of the socket.
"""
