"""The command line: the verbs and flags of `docker swarm`, `service`, `node` and `stack`.

Owns what a person types and reads: flags, tables, templates, progress, and one sentence for each failure. Reads
files that the user names; talks to the cluster through `swarmpy.client` only. One noun a file (or folder, for
`service`); each command is imported when it is called, and grpc, asyncio and rich when they are needed, so that
`--help` answers at once.
"""
