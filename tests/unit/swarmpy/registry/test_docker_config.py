"""Docker's config.json and the helpers it names."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.credentials import Credentials, encode_auth
from swarmpy.registry.docker_config import DEFAULT_KEY, DockerConfig, config_path
from swarmpy.registry.reference import DEFAULT_DOMAIN

HOST = "registry.example:5000"
ANNA = Credentials("anna", "sec:ret")

HELPER = """#!/bin/sh
# Keeps one file a server below its own directory.
folder=$(dirname "$0")
case "$1" in
store) cat > "$folder/kept" ;;
get) read server; cat "$folder/kept" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) rm -f "$folder/kept" ;;
esac
"""


@pytest.fixture
def config(tmp_path: Path) -> DockerConfig:
    return DockerConfig(tmp_path / "docker" / "config.json", helper_deadline_s=5.0)


def write(config: DockerConfig, document: object) -> None:
    config.path.parent.mkdir(exist_ok=True)
    config.path.write_text(json.dumps(document))


def helper(name: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


async def test_a_login_is_kept_for_its_owner_alone_and_leaves_the_rest(config: DockerConfig) -> None:
    write(config, {"auths": {"other.example": {"auth": "eDp5"}}, "detachKeys": "ctrl-x"})
    assert await config.store(HOST, ANNA) == str(config.path)
    document = json.loads(config.path.read_text())
    assert document["auths"][HOST] == {"auth": encode_auth("anna", "sec:ret")}
    assert document["detachKeys"] == "ctrl-x"
    assert stat.S_IMODE(config.path.stat().st_mode) == 0o600
    assert await config.get(HOST) == ANNA
    assert await config.get("other.example") == Credentials("x", "y")
    assert await config.erase(HOST)
    assert not await config.erase(HOST)
    assert await config.get(HOST) is None
    assert await config.get("other.example") == Credentials("x", "y")


async def test_no_file_is_no_login(config: DockerConfig) -> None:
    assert await config.get(HOST) is None
    assert not await config.erase(HOST)
    assert not config.path.exists()


async def test_the_registry_of_short_names_has_a_key_of_its_own(config: DockerConfig) -> None:
    await config.store(DEFAULT_DOMAIN, ANNA)
    assert list(json.loads(config.path.read_text())["auths"]) == [DEFAULT_KEY]
    assert await config.get(DEFAULT_DOMAIN) == ANNA


@pytest.mark.parametrize("key", [f"https://{HOST}", f"http://{HOST}/v1/", f"{HOST}/v2/"])
async def test_keys_as_other_clients_wrote_them(config: DockerConfig, key: str) -> None:
    write(config, {"auths": {key: {"auth": encode_auth("anna", "sec:ret")}}})
    assert await config.get(HOST) == ANNA


async def test_an_identity_token(config: DockerConfig) -> None:
    await config.store(HOST, Credentials("anna", identity_token="long"))
    assert await config.get(HOST) == Credentials("anna", "", "long")


async def test_a_link_to_the_file_stays_one(config: DockerConfig, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.json"
    real.write_text("{}")
    config.path.parent.mkdir()
    config.path.symlink_to(real)
    await config.store(HOST, ANNA)
    assert config.path.is_symlink()
    assert HOST in real.read_text()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "is not JSON"),
        ("[]", "JSON object"),
        ('{"auths": []}', "auths in"),
        ('{"auths": {"registry.example:5000": {"auth": "%%"}}}', "not base64"),
        ('{"auths": {"registry.example:5000": {"auth": "YQ=="}}}', "no colon"),
        ('{"auths": {"registry.example:5000": 3}}', "not a JSON object"),
    ],
)
async def test_a_file_that_cannot_be_read_is_said_to_be_so(config: DockerConfig, text: str, part: str) -> None:
    config.path.parent.mkdir()
    config.path.write_text(text)
    with pytest.raises(SwarmError, match=part) as caught:
        await config.get(HOST)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("document", [{"credsStore": "safe"}, {"credHelpers": {HOST: "safe"}, "credsStore": "none"}])
async def test_a_helper_keeps_the_secret(
    config: DockerConfig, document: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper("safe", HELPER, tmp_path, monkeypatch)
    write(config, document)
    assert await config.get(HOST) is None
    assert await config.store(HOST, ANNA) == "docker-credential-safe"
    assert "sec" not in config.path.read_text()
    assert json.loads(config.path.read_text())["auths"] == {HOST: {}}
    assert await config.get(HOST) == ANNA
    assert await config.erase(HOST)
    assert await config.get(HOST) is None


async def test_a_helper_keeps_an_identity_token_under_its_own_user_name(
    config: DockerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper("safe", HELPER, tmp_path, monkeypatch)
    write(config, {"credsStore": "safe"})
    await config.store(HOST, Credentials("anna", identity_token="long"))
    assert json.loads((tmp_path / "kept").read_text()) == {"ServerURL": HOST, "Username": "<token>", "Secret": "long"}
    assert await config.get(HOST) == Credentials(identity_token="long")


@pytest.mark.parametrize(
    ("script", "code", "part"),
    [
        ("#!/bin/sh\necho the safe is locked; exit 1", Code.FAILED_PRECONDITION, "get failed: the safe is locked"),
        ("#!/bin/sh\nexit 3", Code.FAILED_PRECONDITION, "it said nothing"),
        ("#!/bin/sh\necho nonsense", Code.CORRUPT, "did not answer with a user name"),
        ("#!/bin/sh\nsleep 1000 & wait", Code.DEADLINE_EXCEEDED, "within 0.05 s"),
        ("no program", Code.FAILED_PRECONDITION, "cannot run docker-credential-safe"),
    ],
)
async def test_a_helper_that_fails(
    script: str, code: Code, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper("safe", script, tmp_path, monkeypatch)
    config = DockerConfig(tmp_path / "config.json", helper_deadline_s=0.05 if "sleep" in script else 5.0)
    write(config, {"credsStore": "safe"})
    with pytest.raises(SwarmError, match=part) as caught:
        await config.get(HOST)
    assert caught.value.code is code


async def test_a_helper_that_is_not_installed(config: DockerConfig) -> None:
    write(config, {"credsStore": "absent"})
    with pytest.raises(SwarmError, match="docker-credential-absent, which is not in PATH"):
        await config.get(HOST)
    write(config, {"credsStore": "../evil"})
    with pytest.raises(SwarmError, match="wrong name"):
        await config.get(HOST)


def test_where_the_file_is() -> None:
    assert config_path({}, Path("/home/anna")) == Path("/home/anna/.docker/config.json")
    assert config_path({"DOCKER_CONFIG": "/etc/d"}, Path("/home/anna")) == Path("/etc/d/config.json")


def test_secrets_are_not_printed() -> None:
    assert "sec" not in repr(Credentials("anna", "secret", "secret"))
