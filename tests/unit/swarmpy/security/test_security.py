"""Tokens, names and certificates: what one side makes, the other reads, and nothing else passes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import NodeRole
from swarmpy.security import identity as identities
from swarmpy.security.identity import Identity
from swarmpy.security.names import NodeName, from_alternative_names, node_name, role_name, spiffe_uri
from swarmpy.security.tokens import new_token, parse_token, root_digest, same_token
from swarmpy.security.x509 import check_issued, cluster_of_root, issue, new_csr_pem, new_key_pem, new_root, validity

NOW_S = 1_800_000_000.0
WORKER = NodeName("c1", "n1", NodeRole.WORKER)


def test_a_token_is_read_as_it_was_made() -> None:
    token = new_token(root_digest(b"root"), random.Random(1).randbytes)
    parsed = parse_token(f" {token}\n")
    assert str(parsed) == token
    assert parsed.digest == root_digest(b"root\n")
    assert parsed.secret not in repr(parsed)
    assert same_token(token, str(parsed))


@pytest.mark.parametrize("text", ["", "SWMTKN-1-abc-def", "swmtkn-1-" + "0" * 50 + "-" + "0" * 25, "x" * 500])
def test_a_malformed_token_is_told_apart_from_a_wrong_one(text: str) -> None:
    with pytest.raises(SwarmError, match="the join token is malformed") as caught:
        parse_token(text)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_names_say_cluster_role_and_node() -> None:
    assert role_name("c1", NodeRole.MANAGER) == "manager.c1.swarmpy"
    assert node_name(WORKER) == "n1.worker.c1.swarmpy"
    names = [b"worker.c1.swarmpy", spiffe_uri(WORKER).encode()]
    assert from_alternative_names(names) == WORKER
    assert from_alternative_names([b"spiffe://elsewhere/worker/n1", b"spiffe://c1.swarmpy/king/n1"]) is None


def test_a_certificate_is_for_one_key_one_node_and_one_root() -> None:
    root, other = new_root("c1", now_s=NOW_S), new_root("c1", now_s=NOW_S)
    key = new_key_pem()
    cert = issue(root, new_csr_pem(key), WORKER, now_s=NOW_S, life_s=86400.0)
    check_issued(cert, root.cert_pem, key)
    assert cluster_of_root(root.cert_pem) == "c1"
    assert validity(cert) == (NOW_S, NOW_S + 86400)
    with pytest.raises(SwarmError, match="not signed by the cluster's root"):
        check_issued(cert, other.cert_pem, key)
    with pytest.raises(SwarmError, match="for another key"):
        check_issued(cert, root.cert_pem, new_key_pem())


@pytest.mark.parametrize("csr", [b"", b"nonsense", b"x" * 20_000])
def test_a_request_that_cannot_be_signed_is_refused(csr: bytes) -> None:
    with pytest.raises(SwarmError) as caught:
        issue(new_root("c1", now_s=NOW_S), csr, WORKER, now_s=NOW_S, life_s=1.0)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_an_identity_is_kept_whole_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    identity = Identity(cluster_id="c1", node_id="n1", role=NodeRole.WORKER, key_pem=b"k", cert_pem=b"c", root_pem=b"r")
    assert identities.load(tmp_path) is None
    identities.save(tmp_path, identity)
    assert identities.load(tmp_path) == identity
    path = identities.identity_directory(tmp_path) / identities.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"\xc1")
    with pytest.raises(SwarmError, match="is damaged") as caught:
        identities.load(tmp_path)
    assert caught.value.code is Code.CORRUPT
    identities.erase(tmp_path)
    assert identities.load(tmp_path) is None
