"""Programs around the project: benchmarks, a development cluster, generated code. The packages import none of them."""
