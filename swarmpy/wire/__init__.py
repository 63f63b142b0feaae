"""The model on the wire: structs to protobuf messages and back. Nothing else knows both."""
