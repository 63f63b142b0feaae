from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import HostPort, Transport
from swarmpy.model.node import Platform
from swarmpy.model.spec import Mount, NetworkAttachment, Ulimit
from tests.support.dispatcher import service_version
from worker.assignments import Assignment
from worker.executor.node import NodeFacts
from worker.executor.plan import ProcessPlan, environment, find_command, plan_process, port_variables
from worker.executor.templates import expand
from worker.executor.users import look_up

NODE = NodeFacts("n1", "host-a", Platform(os="linux", arch="x86_64"), "127.0.0.2")


def assignment(**fields: Any) -> Assignment:
    version = service_version(name="web", **{"command": ("sh",), **fields})
    return Assignment(id="t1", service_id=version.service_id, slot=3, version=version)


def planned(tmp_path: Path, **fields: Any) -> ProcessPlan:
    return plan_process(assignment(**fields), (), NODE, tmp_path, may_switch=True)


def refusal(tmp_path: Path, **fields: Any) -> str:
    with pytest.raises(SwarmError) as caught:
        planned(tmp_path, **fields)
    assert not caught.value.retryable
    return caught.value.message


def test_argv_is_command_and_arguments(tmp_path: Path) -> None:
    found = planned(tmp_path, command=("sh", "-c"), args=("true", "x"))
    assert found.argv[1:] == ("-c", "true", "x")
    assert os.access(found.argv[0], os.X_OK)
    assert found.cwd == str(tmp_path)
    assert found.oom_score_adj is None


def test_commands_are_found_as_a_shell_finds_them(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "tool"
    program.parent.mkdir()
    program.write_text("")
    assert find_command("sh", "/nowhere:/bin", tmp_path) == "/bin/sh"
    for name, path, reason in (
        ("tool", str(program.parent), "command not found: 'tool' (looked in PATH="),
        ("bin/tool", "", "is not executable"),
        ("./none", "", "command not found: './none' (looked for"),
        (str(tmp_path), "", "is not a file"),
    ):
        with pytest.raises(SwarmError) as caught:
            find_command(name, path, tmp_path)
        assert reason in caught.value.message
    program.chmod(0o755)
    assert find_command("tool", str(program.parent), tmp_path) == str(program)
    assert find_command("bin/tool", "", tmp_path) == str(program)


def test_the_tasks_own_path_decides(tmp_path: Path) -> None:
    assert "(looked in PATH=/nowhere)" in refusal(tmp_path, env=("PATH=/nowhere",))


def test_ports_are_variables() -> None:
    udp = HostPort(target=53, port=1, transport=Transport.UDP)
    web = HostPort(target=80, port=2)
    assert port_variables((), "127.0.0.2") == {}
    assert port_variables((udp, web), "127.0.0.2") == {
        "HOST": "127.0.0.2",
        "PORT": "2",
        "PORT_53": "1",
        "PORT_80": "2",
    }
    assert port_variables((udp,), "127.0.0.2")["PORT"] == "1"


def test_the_name_server_is_told_once_it_is_known() -> None:
    assert "SWARMPY_DNS" not in environment(assignment(), (), NODE, home="/")
    known = replace(NODE, dns="127.64.0.1:53")
    assert environment(assignment(), (), known, home="/")["SWARMPY_DNS"] == "127.64.0.1:53"


def test_templates_are_filled_in_or_refused() -> None:
    task = assignment(labels={"tier": "front", "a.b": "dotted"})
    text = "{{.Service.ID}} {{.Service.Name}} {{.Task.ID}} {{.Task.Slot}} {{ .Node.Platform.OS }}"
    assert expand(text, task, NODE) == "service-web web t1 3 linux"
    assert expand('{{.Service.Labels.tier}} {{index .Service.Labels "a.b"}}', task, NODE) == "front dotted"
    assert expand("no {templates} here", task, NODE) == "no {templates} here"
    with pytest.raises(SwarmError, match=r"the template \{\{\.Task\.Nope\}\}"):
        expand("{{.Task.Nope}}", task, NODE)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mounts": (Mount(source="/a", target="/b"),)}, "--mount for a plain process is not supported"),
        ({"read_only": True}, "--read-only for a plain process is not supported"),
        ({"cap_add": ("NET_ADMIN",)}, "--cap-add for a plain process is not supported"),
        ({"command": ()}, "the service has no command"),
        ({"user": "no-such-user"}, "there is no user 'no-such-user'"),
        ({"user": "0:no-such-group"}, "there is no group 'no-such-group'"),
        ({"workdir": "/no/where"}, "does not exist on this node"),
        ({"stop_signal": "NO"}, "there is no signal"),
        ({"ulimits": (Ulimit(name="nofile", soft=2, hard=1),)}, "soft limit of 2 above its hard limit 1"),
        ({"ulimits": (Ulimit(name="nofile", soft=-1, hard=1),)}, "above its hard limit"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    assert reason in refusal(tmp_path, **fields)


def test_unlimited_is_above_every_limit(tmp_path: Path) -> None:
    limits = (Ulimit(name="nofile", soft=100, hard=-1), Ulimit(name="core", soft=-1, hard=-1))
    assert planned(tmp_path, ulimits=limits).ulimits == {"nofile": (100, -1), "core": (-1, -1)}


def test_users_are_looked_up() -> None:
    assert look_up("", (), may_switch=True).uid is None
    root = look_up("root", (), may_switch=True)
    assert (root.uid, root.gid, root.home) == (0, 0, "/root")
    assert look_up("12345", (), may_switch=True).gid == 12345
    assert look_up("12345:7", ("8", "root"), may_switch=True).groups == (7, 8, 0)
    own = f"{os.geteuid()}:{os.getegid()}"
    assert look_up(own, (), may_switch=False).uid is None
    with pytest.raises(SwarmError, match="does not run as root") as caught:
        look_up("12345", (), may_switch=False)
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_a_process_with_a_network_of_its_own_listens_at_all_of_its_addresses_on_the_target_ports() -> None:
    made = assignment()
    joined = msgspec.structs.replace(made.version.task, networks=(NetworkAttachment(target="front"),))
    apart = msgspec.structs.replace(made, version=msgspec.structs.replace(made.version, task=joined))
    port = HostPort(target=80, port=30001)
    env = environment(apart, (port,), replace(NODE, dns="127.64.0.1:53"), home="/")
    assert (env["HOST"], env["PORT"], env["PORT_80"]) == ("0.0.0.0", "80", "80")
    assert (env["SWARMPY_NODE_ADDR"], env["SWARMPY_DNS"]) == ("0.0.0.0", "127.0.0.11:53")


def test_what_needs_name_files_of_its_own_needs_a_network_of_its_own(tmp_path: Path) -> None:
    assert "--dns for a plain process on the network of its node" in refusal(tmp_path, dns=("9.9.9.9",))
