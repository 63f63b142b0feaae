"""The wire: gRPC services and messages, generated from `proto/`. Not written by hand; see `make proto`."""
