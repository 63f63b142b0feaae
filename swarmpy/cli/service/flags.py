"""The flags of `service create` and `service update`, as a table."""

from __future__ import annotations

from typing import Final

from swarmpy.cli.flag import Flag


def _probe_flags() -> tuple[Flag, ...]:
    return (
        Flag("health-cmd", "COMMAND", "Shell command that tells whether a task is well"),
        Flag("health-http", "[:PORT]/PATH", "Path that answers 200-399 while a task is well"),
        Flag("health-tcp", "PORT", "Target port that accepts connections while a task is well"),
        Flag("health-interval", "DURATION", "Time between two probes (30s)"),
        Flag("health-retries", "NUMBER", "Failures in a row until a task is unhealthy (3)"),
        Flag("health-start-interval", "DURATION", "Time between two probes in the start period (5s)"),
        Flag("health-start-period", "DURATION", "Time in which failures do not count (0s)"),
        Flag("health-timeout", "DURATION", "Longest time of one probe (30s)"),
        Flag("no-healthcheck", "", "No health check, whatever the image says"),
        Flag("ready-cmd", "COMMAND", "Shell command that tells whether a task may be given connections"),
        Flag("ready-http", "[:PORT]/PATH", "Path that answers 200-399 while a task may be given connections"),
        Flag("ready-tcp", "PORT", "Target port that accepts connections once a task may be given some"),
        Flag("ready-interval", "DURATION", "Time between two readiness probes (1s)"),
    )


def _rollout_flags(kind: str) -> tuple[Flag, ...]:
    actions = "pause|continue|rollback" if kind == "update" else "pause|continue"
    return (
        Flag(f"{kind}-delay", "DURATION", f"Time between two tasks of the {kind} (0s)"),
        Flag(f"{kind}-failure-action", actions, f"What a failing {kind} does (pause)"),
        Flag(f"{kind}-max-failure-ratio", "RATIO", f"Share of tasks that may fail in the {kind}, 0 to 1 (0)"),
        Flag(f"{kind}-monitor", "DURATION", f"Time for which a task of the {kind} is watched (5s)"),
        Flag(f"{kind}-order", "start-first|stop-first", f"Order of the {kind} (stop-first)"),
        Flag(f"{kind}-parallelism", "NUMBER", f"Tasks in one go of the {kind}, 0 for all (1)"),
    )


SCALARS: Final = (
    Flag("detach", "", "Return at once instead of waiting until the service has converged", short="d"),
    Flag("drain-timeout", "DURATION", "Longest time that connections of a stopping task are waited for (5s)"),
    Flag("endpoint-mode", "vip|dnsrr", "What the service's name stands for (vip)"),
    Flag("entrypoint", "COMMAND", "Replace the image's entrypoint; of a process, what comes before its arguments"),
    *_probe_flags(),
    Flag("hostname", "NAME", "Host name of the containers; may hold placeholders such as {{.Task.Slot}}"),
    Flag("init", "", "Run a minimal init process that reaps and forwards signals"),
    Flag("limit-cpu", "CPUS", "Most CPU time of a task, such as 0.5"),
    Flag("limit-memory", "BYTES", "Most memory of a task, such as 64m"),
    Flag("limit-pids", "NUMBER", "Most processes and threads of a task, 0 for no limit"),
    Flag("log-driver", "DRIVER", "What keeps the tasks' output: json-file, local, journald or none (json-file)"),
    Flag("log-opt", "NAME=VALUE", "Option of the log driver: max-size, max-file", many=True),
    Flag("no-resolve-image", "", "Never ask the registry for the image's digest: as --resolve-image never"),
    Flag("oom-score-adj", "NUMBER", "Out-of-memory score adjustment, -1000 to 1000"),
    Flag("quiet", "", "Show no progress", short="q"),
    Flag("read-only", "", "The image's files cannot be changed"),
    Flag("replicas", "NUMBER", "Number of tasks (1)"),
    Flag("replicas-max-per-node", "NUMBER", "Most tasks on one node, 0 for no limit"),
    Flag("reserve-cpu", "CPUS", "CPU time that a node must have free"),
    Flag("reserve-memory", "BYTES", "Memory that a node must have free"),
    Flag("resolve-image", "always|changed|never", "When the registry is asked which digest the image has"),
    Flag("restart-condition", "any|on-failure|none", "When a stopped task is replaced (any)"),
    Flag("restart-delay", "DURATION", "Time before a task is replaced (at once, then backing off to 30s)"),
    Flag("restart-max-attempts", "NUMBER", "Most replacements of a task, 0 for no limit"),
    Flag("restart-window", "DURATION", "Time over which replacements are counted"),
    *_rollout_flags("rollback"),
    Flag("stop-grace-period", "DURATION", "Time from the stop signal to the kill (10s)"),
    Flag("stop-signal", "SIGNAL", "Signal that stops a task (SIGTERM)"),
    Flag("tty", "", "Give the containers a terminal", short="t"),
    *_rollout_flags("update"),
    Flag("user", "NAME|UID[:GROUP|GID]", "User of the task", short="u"),
    Flag("with-registry-auth", "", "Have the nodes pull the image with your credentials of `swarmpy login`"),
    Flag("workdir", "DIR", "Working directory", short="w"),
)

LISTS: Final = (
    Flag("dns", "ADDRESS", "Name server of the containers", many=True),
    Flag("dns-option", "OPTION", "Option of the containers' resolver", many=True),
    Flag("dns-search", "DOMAIN", "Search domain of the containers", many=True),
    Flag("host", "NAME:ADDRESS", "Line of the containers' hosts file", many=True),
    Flag("mount", "MOUNT", "Mount: type=bind|volume|tmpfs,source=...,target=...", many=True),
    Flag("sysctl", "NAME=VALUE", "Kernel setting of the containers' own", many=True),
    Flag("constraint", "EXPRESSION", "Placement constraint, such as node.labels.zone==a", many=True),
    Flag("container-label", "KEY=VALUE", "Label of the tasks", many=True),
    Flag("env", "KEY[=VALUE]", "Environment variable", short="e", many=True),
    Flag("expose", "PORT[/PROTOCOL]", "Port reached through the service's name only", many=True),
    Flag("group", "GROUP", "Supplementary group of the task's user", many=True),
    Flag("label", "KEY=VALUE", "Label of the service", short="l", many=True),
    Flag("network", "NETWORK", "Network to join: NAME, or name=NAME,alias=ALIAS", many=True),
    Flag("publish", "PORT", "Published port: [PUBLISHED:]TARGET[/PROTOCOL][,OPTION=VALUE...]", short="p", many=True),
    Flag("ulimit", "NAME=SOFT[:HARD]", "Resource limit of the task's processes", many=True),
)

# Not in pairs: an added one takes a dropped one's place, and the other way round.
CAPABILITIES: Final = (
    Flag("cap-add", "CAPABILITY", "Add a Linux capability, or ALL", many=True),
    Flag("cap-drop", "CAPABILITY", "Drop a Linux capability, or ALL", many=True),
)

CREATE_ONLY: Final = (
    Flag("env-file", "FILE", "File of environment variables", many=True),
    Flag("mode", "replicated|global|replicated-job|global-job", "How many tasks there are (replicated)"),
    Flag("name", "NAME", "Name of the service"),
    Flag("process", "", "Run plain processes: all arguments are the command"),
)

UPDATE_ONLY: Final = (
    Flag("args", "COMMAND", "Replace the arguments (of a process: the command)"),
    Flag("force", "", "Replace all tasks even if nothing changed"),
    Flag("image", "IMAGE", "Replace the image"),
    Flag("rollback", "", "Put the previous spec back"),
)

_REFUSED_SCALARS: Final = ("credential-spec", "isolation", "max-concurrent")
_REFUSED_LISTS: Final = ("config", "generic-resource", "placement-pref", "secret")


def _refused(pairs: bool) -> tuple[Flag, ...]:
    lists = [f"{name}-{verb}" for name in _REFUSED_LISTS for verb in ("add", "rm")] if pairs else _REFUSED_LISTS
    return (
        *(Flag(name, "VALUE", "Not supported yet", supported=False) for name in _REFUSED_SCALARS),
        *(Flag(name, "VALUE", "Not supported yet", many=True, supported=False) for name in lists),
    )


def _pair(flag: Flag) -> tuple[Flag, Flag]:
    removed = {
        "publish": "TARGET[/PROTOCOL]",
        "expose": "TARGET[/PROTOCOL]",
        "constraint": "EXPRESSION",
        "mount": "TARGET",
        "host": "NAME:ADDRESS",
    }
    return (
        Flag(f"{flag.name}-add", flag.metavar, f"Add or replace: {flag.help}", many=True),
        Flag(f"{flag.name}-rm", removed.get(flag.name, "NAME"), f"Remove by name: {flag.name}", many=True),
    )


CREATE: Final = (*SCALARS, *LISTS, *CAPABILITIES, *CREATE_ONLY, *_refused(pairs=False))
UPDATE: Final = (
    *SCALARS,
    *(half for flag in LISTS for half in _pair(flag)),
    *CAPABILITIES,
    *UPDATE_ONLY,
    *_refused(pairs=True),
)
