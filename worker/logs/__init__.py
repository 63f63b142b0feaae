"""What tasks print: read from their FIFOs, kept in rotated files, and read back for subscribers.

Owns `tasks/<id>/{stdout,stderr}` (FIFOs) and `tasks/<id>/logs/`. Lines are in the format of the Kubernetes CRI
(`2026-08-01T12:00:00.000000Z stdout F text`), which keeps bytes as they are and reads well.
"""
