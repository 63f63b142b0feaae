"""The flags of `swarmpy run` and `swarmpy create`, as a table."""

from __future__ import annotations

from typing import Final

from swarmpy.cli.flag import Flag

CREATE: Final = (
    Flag("add-host", "NAME:ADDRESS", "Line of the hosts file", many=True),
    Flag("cap-add", "CAPABILITY", "Add a Linux capability", many=True),
    Flag("cap-drop", "CAPABILITY", "Drop a Linux capability", many=True),
    Flag("cpus", "CPUS", "Most CPU time, such as 0.5"),
    Flag("dns", "ADDRESS", "Name server", many=True),
    Flag("dns-option", "OPTION", "Option of the resolver", many=True),
    Flag("dns-search", "DOMAIN", "Search domain", many=True),
    Flag("entrypoint", "COMMAND", "Replace the image's entrypoint"),
    Flag("env", "KEY[=VALUE]", "Environment variable", short="e", many=True),
    Flag("env-file", "FILE", "File of environment variables", many=True),
    Flag("group-add", "GROUP", "Further group of the user", many=True),
    Flag("health-cmd", "COMMAND", "Shell command that tells whether the container is well"),
    Flag("health-interval", "DURATION", "Time between two checks (30s)"),
    Flag("health-retries", "NUMBER", "Failures in a row until it is unhealthy (3)"),
    Flag("health-start-interval", "DURATION", "Time between two checks in the start period (5s)"),
    Flag("health-start-period", "DURATION", "Time in which failures do not count (0s)"),
    Flag("health-timeout", "DURATION", "Longest time of one check (30s)"),
    Flag("hostname", "NAME", "Host name of the container", short="h"),
    Flag("init", "", "Run a minimal init process that reaps and forwards signals"),
    Flag("interactive", "", "Keep standard input open", short="i"),
    Flag("label", "KEY=VALUE", "Set a label", short="l", many=True),
    Flag("log-driver", "DRIVER", "What keeps the output: json-file, local, journald or none (json-file)"),
    Flag("log-opt", "NAME=VALUE", "Option of the log driver: max-size, max-file", many=True),
    Flag("memory", "BYTES", "Most memory, such as 64m", short="m"),
    Flag("mount", "MOUNT", "Mount: type=bind|volume|tmpfs,source=...,target=...", many=True),
    Flag("name", "NAME", "Name of the container (one is made up)"),
    Flag("network", "bridge|host|none", "Network (bridge)"),
    Flag("no-healthcheck", "", "No health check, whatever the image says"),
    Flag("oom-score-adj", "NUMBER", "Out-of-memory score adjustment, -1000 to 1000"),
    Flag("pids-limit", "NUMBER", "Most processes and threads, 0 for no limit"),
    Flag(
        "publish", "[ADDRESS:][PORT:]TARGET", "Port of this machine that leads to the container's", short="p", many=True
    ),
    Flag("publish-all", "", "Publish every port that the image exposes, on free ones", short="P"),
    Flag("pull", "missing|always|never", "When the image is pulled (missing)"),
    Flag("quiet", "", "Show nothing of the pull", short="q"),
    Flag("read-only", "", "The image's files cannot be changed"),
    Flag("restart", "RULE", "no, on-failure[:NUMBER], always or unless-stopped (no)"),
    Flag("rm", "", "Remove the container when it has ended"),
    Flag("stop-signal", "SIGNAL", "Signal that stops the container (SIGTERM)"),
    Flag("stop-timeout", "SECONDS", "Time from the stop signal to the kill (10)"),
    Flag("sysctl", "NAME=VALUE", "Kernel setting of the container's own", many=True),
    Flag("tmpfs", "TARGET", "Directory in memory: TARGET[:size=64m,mode=1777]", many=True),
    Flag("tty", "", "Give it a terminal", short="t"),
    Flag("ulimit", "NAME=SOFT[:HARD]", "Resource limit of its processes", many=True),
    Flag("user", "NAME|UID[:GROUP|GID]", "User to run as", short="u"),
    Flag("volume", "[SOURCE:]TARGET[:ro]", "Directory of this machine, or a volume", short="v", many=True),
    Flag("workdir", "DIR", "Working directory", short="w"),
    *(Flag(name, "", "Not supported yet", supported=False) for name in ("privileged", "oom-kill-disable")),
    *(
        Flag(name, "VALUE", "Not supported yet", many=True, supported=False)
        for name in ("device", "security-opt", "gpus", "ipc", "pid", "uts", "userns", "shm-size", "platform", "cidfile")
    ),
)
RUN: Final = (
    *CREATE,
    Flag("attach", "STREAM", "Attach to stdin, stdout or stderr only", short="a", many=True),
    Flag("detach", "", "Print the container's id and leave it alone", short="d"),
    Flag("detach-keys", "KEYS", "Keys that leave the container running (ctrl-p,ctrl-q)"),
    Flag("no-sig-proxy", "", "Do not pass signals on to the container"),
)
