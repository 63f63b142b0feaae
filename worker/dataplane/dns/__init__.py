"""DNS names of services and tasks, below `swarm.`.

`zone` says what a name means, `answers` makes bytes of bytes and keeps them (`cache`), `udp`, `tcp` and `server`
carry them. Reads the endpoint table; owns its sockets; refuses every other name, so a resolver asks elsewhere.
"""
