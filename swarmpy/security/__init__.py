"""Who is who: certificates, join tokens, and the identity that a node keeps on disk.

Pure but for `identity`, which reads and writes the node's identity folder. The `x509` module loads the
cryptography library, which takes memory: long-running processes import it only where certificates are made.
"""
