"""How lists and objects leave: as a table, as JSON, through a template, or as ids only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from swarmpy.cli import table, template
from swarmpy.cli.session import Session

Command = TypeVar("Command", bound=Callable[..., Any])

Row = Mapping[str, Any]


def list_options(command: Command) -> Command:
    """Add `--format` and `-q` to a command that lists things."""
    command = click.option(
        "--format",
        "format_",
        default="table",
        metavar="FORMAT",
        help="`table`, `json`, a template such as '{{.ID}} {{.Name}}', or `table TEMPLATE`.",
    )(command)
    return click.option("-q", "--quiet", is_flag=True, help="Only show ids.")(command)


def is_table(format_: str) -> bool:
    """Tell whether the format is the plain table."""
    return format_ in ("table", "")


def show_list(
    session: Session,
    columns: Mapping[str, str],
    rows: Sequence[Row],
    *,
    format_: str,
    quiet: bool,
    key: str = "ID",
) -> None:
    """Write `rows`.

    Args:
        columns: header of each column of the table -> field of the rows that it shows.
        key: the field that `quiet` shows.
    """
    if quiet and is_table(format_):
        _lines(session, (str(row[key]) for row in rows))
    elif is_table(format_):
        body = [[template.text_of(row[field]) for field in columns.values()] for row in rows]
        session.echo(table.render([list(columns), *body]))
    elif format_ == "json":
        _lines(session, (json.dumps(row, ensure_ascii=False) for row in rows))
    elif format_.startswith("table "):
        _templated_table(session, columns, rows, format_.removeprefix("table "))
    else:
        parsed = template.parse(format_)
        _lines(session, (parsed.render(row) for row in rows))


def _templated_table(session: Session, columns: Mapping[str, str], rows: Sequence[Row], source: str) -> None:
    parsed = template.parse(source)
    headers = {field: header for header, field in columns.items()}
    header = [headers.get(name, name.upper()) for name in parsed.fields()]
    session.echo(table.render([header, *(parsed.render(row).split("\t") for row in rows)]))


def show_objects(session: Session, documents: Sequence[Row], *, format_: str) -> None:
    """Write documents as `inspect` does: a JSON array, or each through a template."""
    if format_ in ("", "json"):
        indent = 4 if format_ == "" else None
        session.echo(json.dumps(list(documents), indent=indent, ensure_ascii=False))
        return
    parsed = template.parse(format_)
    _lines(session, (parsed.render(document) for document in documents))


def _lines(session: Session, lines: Any) -> None:
    session.out.writelines(f"{line}\n" for line in lines)
