"""X.509: the cluster's root, the nodes' keys, signing requests and certificates. EC P-256 throughout.

Pure but for the random source of the cryptography library: times are arguments, nothing is read or written.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarmpy.errors import Code, SwarmError, invalid
from swarmpy.security.names import NodeName, node_name, role_name, spiffe_uri

ROOT_LIFE_S: Final = 20 * 365 * 86400.0
BACKDATE_S: Final = 3600.0
MAX_CSR_BYTES: Final = 16 * 1024


@dataclass(frozen=True)
class Root:
    """A certificate authority: its certificate and its private key, both PEM."""

    cert_pem: bytes
    key_pem: bytes


def new_key_pem() -> bytes:
    """Return a new private key, PEM (PKCS#8, not encrypted)."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def new_root(cluster_id: str, *, now_s: float) -> Root:
    """Return a new self-signed root for a cluster, valid for 20 years from `now_s` (wall seconds)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"swarmpy-ca.{cluster_id}", cluster_id)
    builder = _certificate(subject, subject, key.public_key(), now_s, ROOT_LIFE_S)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    cert = builder.sign(key, hashes.SHA256())
    return Root(cert.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def cluster_of_root(root_pem: bytes) -> str:
    """Return the id of the cluster whose root this is.

    Raises:
        SwarmError: INVALID_ARGUMENT, not a root of a swarmpy cluster.
    """
    try:
        root = x509.load_pem_x509_certificate(root_pem)
    except ValueError as error:
        raise invalid("the root certificate cannot be read: it is not PEM") from error
    names = root.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if not names:
        raise invalid("the root certificate names no cluster: it is not one of a swarmpy cluster")
    return str(names[0].value)


def new_csr_pem(key_pem: bytes) -> bytes:
    """Return a signing request for this key. It names nobody: the issuer decides who the holder is."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(_load_key(key_pem), hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM)


def issue(root: Root, csr_pem: bytes, name: NodeName, *, now_s: float, life_s: float) -> bytes:
    """Return a certificate, PEM, for the holder `name` of the key in `csr_pem`.

    Args:
        now_s: wall seconds; the certificate is valid from an hour before, for clocks that run behind.
        life_s: validity from now on, seconds.
    Raises:
        SwarmError: INVALID_ARGUMENT, the request is malformed or does not prove that its key is held.
    """
    if len(csr_pem) > MAX_CSR_BYTES:
        raise invalid("the signing request is too large")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        public = csr.public_key()
        is_held = csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise invalid("the signing request cannot be read: it is not PEM, or of an unknown kind") from error
    if not is_held or not isinstance(public, ec.EllipticCurvePublicKey):
        raise invalid("the signing request is not signed by an elliptic-curve key of its own")
    issuer = x509.load_pem_x509_certificate(root.cert_pem)
    subject = _subject(name.node_id, name.cluster_id)
    builder = _certificate(subject, issuer.subject, public, now_s, life_s)
    alternatives = [
        x509.DNSName(role_name(name.cluster_id, name.role)),
        x509.DNSName(node_name(name)),
        x509.UniformResourceIdentifier(spiffe_uri(name)),
    ]
    builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    cert = builder.sign(_load_key(root.key_pem), hashes.SHA256())
    return cert.public_bytes(serialization.Encoding.PEM)


def validity(cert_pem: bytes) -> tuple[float, float]:
    """Return `(issued at, valid until)` of a certificate that `issue` made, wall seconds."""
    cert = x509.load_pem_x509_certificate(cert_pem)
    return cert.not_valid_before_utc.timestamp() + BACKDATE_S, cert.not_valid_after_utc.timestamp()


def check_issued(cert_pem: bytes, root_pem: bytes, key_pem: bytes) -> None:
    """Check that a certificate is for our key and signed by our root.

    Raises:
        SwarmError: CORRUPT, it is not.
    """
    try:
        cert = x509.load_pem_x509_certificate(cert_pem)
    except ValueError as error:
        raise SwarmError(Code.CORRUPT, "what came as a certificate is none") from error
    try:
        cert.verify_directly_issued_by(x509.load_pem_x509_certificate(root_pem))
    except (InvalidSignature, TypeError, ValueError) as error:
        raise SwarmError(Code.CORRUPT, "the certificate is not signed by the cluster's root") from error
    if cert.public_key() != _load_key(key_pem).public_key():
        raise SwarmError(Code.CORRUPT, "the certificate is for another key than this node's")


def _certificate(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now_s: float, life_s: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_utc(now_s - BACKDATE_S))
        .not_valid_after(_utc(now_s + life_s))
    )


def _utc(wall_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(wall_s), datetime.UTC)


def _subject(common: str, cluster_id: str) -> x509.Name:
    common_name = x509.NameAttribute(NameOID.COMMON_NAME, common)
    return x509.Name([common_name, x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster_id)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _load_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(key_pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "every key of ours is made by new_key_pem"
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
