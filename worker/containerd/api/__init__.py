"""The subset of containerd's gRPC API that is used here, generated from `proto/`. Not written by hand; see `make proto`."""
