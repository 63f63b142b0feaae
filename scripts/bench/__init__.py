"""Benchmarks, one file each: a table for people, then one line of JSON. `python -m scripts.bench [NAME...]`."""
