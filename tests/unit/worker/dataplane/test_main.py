from __future__ import annotations

from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from worker.dataplane.main import DNS_PORTS, Settings, parse, prepared


def settings(folder: Path) -> Settings:
    return parse(["--state-dir", str(folder), "--addr", "127.0.0.2"])


def test_what_is_not_said_follows_from_what_is(tmp_path: Path) -> None:
    given = settings(tmp_path)
    assert (given.data_address, given.dns_ports) == ("127.0.0.2", DNS_PORTS)
    given = parse(["--state-dir", "x", "--addr", "127.0.0.2", "--data-addr", "127.0.0.3", "--dns-port", "0"])
    assert (given.data_address, given.dns_ports) == ("127.0.0.3", (0,))


@pytest.mark.parametrize("wrong", [["--addr", "web"], ["--addr", "1.2.3.4", "--dns-port", "65536"], []])
def test_wrong_arguments_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--state-dir", "x", *wrong])
    assert "error:" in capsys.readouterr().err


def test_a_path_that_no_socket_can_have_is_refused_with_the_way_out(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    with pytest.raises(SwarmError, match="shorter --state-dir") as caught, prepared(settings(deep)):
        pass
    assert not caught.value.retryable
    assert not deep.exists()


def test_two_data_planes_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        prepared(settings(tmp_path)),
        pytest.raises(SwarmError, match="another data plane runs") as caught,
        prepared(settings(tmp_path)),
    ):
        pass
    assert caught.value.code is Code.UNAVAILABLE
    with prepared(settings(tmp_path)):
        assert (tmp_path / "run").is_dir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SwarmError, match="cannot use the state directory"), prepared(settings(tmp_path / "file")):
        pass
