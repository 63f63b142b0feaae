"""gRPC with the project's manners: errors that keep their words, TLS by role, and how a node is dialled."""
