"""The entry point: the nouns, the options before them, and the boundary where every failure becomes a sentence."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn, TypeGuard

import click

from swarmpy.cli.lazy import Entry, LazyGroup
from swarmpy.cli.session import Session
from swarmpy.errors import SwarmError

OUTPUT_FAULTS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
OBJECTS_BEFORE_COLLECTION: Final = 100_000
"""Most commands end before they have made as many: what they import and list is no garbage to look for."""

NOUNS: Final = {
    "swarm": Entry("swarmpy.cli.swarm:swarm", "Manage the swarm"),
    "node": Entry("swarmpy.cli.node:node", "Manage the nodes of the swarm"),
    "service": Entry("swarmpy.cli.service.group:service", "Manage services"),
    "stack": Entry("swarmpy.cli.stack:stack", "Manage stacks of services, from Compose files"),
    "secret": Entry("", "Manage secrets"),
    "config": Entry("swarmpy.cli.config:config", "Manage configs"),
    "network": Entry("swarmpy.cli.network:network", "Manage networks"),
    "container": Entry("swarmpy.cli.container.group:container", "Manage the containers of this node"),
    "run": Entry("swarmpy.cli.container.run:run", "Run a command in a new container on this node"),
    "image": Entry("swarmpy.cli.image.group:image", "Manage the images of this node"),
    "volume": Entry("swarmpy.cli.volume:volume", "Manage the volumes of this node"),
    "login": Entry("swarmpy.cli.image.login:login", "Log in to a registry"),
    "logout": Entry("swarmpy.cli.image.login:logout", "Forget the credentials of a registry"),
    "info": Entry("swarmpy.cli.info:info", "Show this node and the swarm it is in"),
    "version": Entry("swarmpy.cli.info:version", "Show the version"),
}


# What Docker's users type without the noun works, too; it is in the help of its noun.
ALIASES: Final = {
    name: Entry(f"swarmpy.cli.{place}", "")
    for name, place in {
        "build": "image.build:build",
        "images": "image.ls:ls",
        "load": "image.archive:import_",
        "pull": "image.transfer:pull",
        "push": "image.transfer:push",
        "rmi": "image.change:rm",
        "save": "image.archive:save",
        "tag": "image.change:tag",
        "attach": "container.talk:attach",
        "cp": "container.copy:cp",
        "create": "container.run:create",
        "diff": "container.look:diff",
        "exec": "container.talk:exec_",
        "kill": "container.change:kill",
        "logs": "container.logs:logs",
        "pause": "container.change:pause",
        "port": "container.look:port",
        "ps": "container.ls:ls",
        "rename": "container.change:rename",
        "restart": "container.change:restart",
        "rm": "container.change:rm",
        "start": "container.change:start",
        "stats": "container.stats:stats",
        "stop": "container.change:stop",
        "top": "container.look:top",
        "unpause": "container.change:unpause",
        "wait": "container.change:wait",
    }.items()
}


@click.group(cls=LazyGroup, entries=NOUNS, aliases=ALIASES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="State directory of the node to talk to (default: $SWARMPY_STATE_DIR, else /var/lib/swarmpy as root,"
    " else the user's data directory).",
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Deadline of each call (10)."
)
@click.option(
    "--stale", is_flag=True, help="Read what this node's manager has, current or not; works without a quorum, too."
)
@click.version_option(package_name="swarmpy", prog_name="swarmpy", message="%(prog)s version %(version)s")
@click.pass_context
def cli(ctx: click.Context, state_dir: Path | None, timeout_s: float | None, stale: bool) -> None:
    """Run services on a cluster of nodes: the verbs and flags of Docker Swarm."""
    session: Session = ctx.obj
    ctx.obj = replace(
        session,
        state_dir=state_dir or session.state_dir,
        timeout_s=timeout_s or session.timeout_s,
        stale=stale,
    )


def main() -> NoReturn:
    """Run the command line of this process."""
    gc.set_threshold(OBJECTS_BEFORE_COLLECTION)
    # A stream that was closed before the start (`>&-`) is None; what goes there is lost, as with other programs.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115  # for as long as the process lives
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115  # the same
    status = run(sys.argv[1:], Session.of_process())
    with contextlib.suppress(OSError):  # what could not be written was reported
        sys.stdout.flush()
        sys.stderr.flush()
    # To take gRPC, the modules and a long list apart takes 20 ms and more; the system frees all of it at once.
    os._exit(status)


def run(argv: Sequence[str], session: Session) -> int:
    """Run one command and return its exit status; what goes wrong is one sentence on standard error."""
    try:
        result = cli.main(args=list(argv), prog_name="swarmpy", standalone_mode=False, obj=session)
        session.out.flush()
    except BrokenPipeError:
        _discard_output(session)
        return EXIT_FAILED
    except (KeyboardInterrupt, click.Abort) as error:
        session.warn(str(error) or "Interrupted.")
        return EXIT_INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        session.echo(error.ctx.get_help())
        return 0
    except click.UsageError as error:
        session.warn(f"Error: {_usage(error)}")
        return EXIT_USAGE
    except click.ClickException as error:
        session.warn(f"Error: {error.format_message()}")
        return EXIT_FAILED
    except SwarmError as error:
        session.warn(f"Error: {error.message}")
        return EXIT_FAILED
    except Exception as error:  # the boundary: a bug of ours is a sentence too
        if _is_of_output(error):
            session.warn(
                f"Error: cannot write the output: {str(error.strerror).lower()};"
                " a change that was asked for may have been made"
            )
            return EXIT_FAILED
        if session.environ.get("SWARMPY_DEBUG"):
            raise
        session.warn(
            f"Error: swarmpy failed ({type(error).__name__}: {error}); this is a bug: run it again with"
            " SWARMPY_DEBUG=1 to see where"
        )
        return EXIT_FAILED
    return result if isinstance(result, int) else 0


def _is_of_output(error: Exception) -> TypeGuard[OSError]:
    """Tell whether a stream could not be written: a full disk behind it, say. A failed open() would name its file."""
    return isinstance(error, OSError) and error.errno in OUTPUT_FAULTS and error.filename is None


def _usage(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "swarmpy"
    return f"{_usage_sentence(error)} (see '{command} --help')"


def _usage_sentence(error: click.UsageError) -> str:
    match error:
        case click.NoSuchOption():
            import difflib  # for who mistypes only

            close = difflib.get_close_matches(error.option_name, error.possibilities or [], n=1)
            return f"no such option {error.option_name}" + (f", did you mean {close[0]}?" if close else "")
        case click.MissingParameter() if error.param is not None:
            return f"missing argument {error.param.make_metavar(error.ctx or click.Context(cli))}"
    sentence = error.format_message().rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def _discard_output(session: Session) -> None:
    """Keep the interpreter's last flush from complaining about a reader that has gone."""
    if session.out is sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
