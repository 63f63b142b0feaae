"""The certificate authority: admits nodes by token, renews what is about to run out.

Owns the issuing of certificates and the node row's creation, which is one act: a certificate without a row is
refused everywhere. Reads the cluster's root and tokens. Rotation of the root comes here too, later.
"""
