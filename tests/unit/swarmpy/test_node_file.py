from __future__ import annotations

from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.node_file import NodeFile, parse_node_file, read_node_file

WHOLE = """
[containerd]
socket = "/c.sock"
[storage]
driver = "devmapper"
[storage.options]
pool_name = "pool"
async_remove = true
[registry]
mirrors = ["http://127.0.0.1:5000"]
[network]
publish-driver = "nftables"
"""


def test_a_file_that_says_everything(tmp_path: Path) -> None:
    assert read_node_file(tmp_path) == NodeFile()
    assert read_node_file(tmp_path / "nowhere") == NodeFile()
    (tmp_path / "node.toml").write_text(WHOLE)
    found = read_node_file(tmp_path)
    assert (found.containerd_socket, found.storage_driver) == ("/c.sock", "devmapper")
    assert found.storage_options == {"pool_name": "pool", "async_remove": True}
    assert found.registry == {"mirrors": ["http://127.0.0.1:5000"]}
    assert found.publish_driver == "nftables"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "is not TOML"),
        ("[docker]", r"\[docker\] is not one of the sections containerd, storage"),
        ("storage = 3", r"\[storage\] is not one"),
        ("[containerd]\nsokcet = ''", r"\[containerd\] knows no key 'sokcet', only socket"),
        ("[containerd]\nsocket = 3", "socket has to be a text"),
        ("[storage]\ndriver = 'aufs'", "'aufs' is not one of overlayfs"),
        ("[storage]\noptions = 3\ndriver = 'zfs'", "has to hold texts"),
        ("[storage]\ndriver = 'zfs'\noptions.x = []", "has to hold texts"),
        ("[storage.options]\nx = ''", "say which by driver"),
        ("[network]\npool = ''", r"\[network\] knows no key 'pool', only publish-driver"),
        ("[network]\npublish-driver = 'ipvs'", "'ipvs' is not one of balancer, nftables"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, words: str) -> None:
    with pytest.raises(SwarmError, match=words) as caught:
        parse_node_file(text)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_refusal_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_bytes(b"\xff")
    with pytest.raises(SwarmError, match=r"cannot read .*node\.toml"):
        read_node_file(tmp_path)
    (tmp_path / "node.toml").write_text("[docker]")
    with pytest.raises(SwarmError, match=r"node\.toml: \[docker\]"):
        read_node_file(tmp_path)
