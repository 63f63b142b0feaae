"""The template language of --format."""

from __future__ import annotations

from typing import Any

import pytest

from swarmpy.cli import table, template
from swarmpy.errors import SwarmError

DATA: dict[str, Any] = {
    "Name": "web",
    "Spec": {"Labels": {"zone": "a"}, "Args": ["a", "b"], "Empty": None, "On": True},
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("{{ .Name }}!", "web!"),
        ("{{- .Name -}}", "web"),
        (r"{{.Name}}\t{{.Spec.On}}\n", "web\ttrue\n"),
        ("{{json .Spec.Labels}}", '{"zone": "a"}'),
        ('{{index .Spec.Labels "zone"}}', "a"),
        ("{{index .Spec.Args 1}}", "b"),
        ('{{join .Spec.Args ", "}}', "a, b"),
        ("{{len .Spec.Args}} {{upper .Name}} {{lower .Name}}", "2 WEB web"),
        ("{{.Spec.Empty}}|", "|"),
        ("{{.Spec.Args}}", '["a", "b"]'),
    ],
)
def test_templates(source: str, text: str) -> None:
    assert template.parse(source).render(DATA) == text


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("{{.Nope}}", "there is no field .Nope; known fields: .Name .Spec"),
        ("{{.Spec.Nope}}", "known fields: .Spec.Labels .Spec.Args .Spec.Empty .Spec.On"),
        ("{{.Name.First}}", "there is no field .Name.First: .Name has no fields"),
        ("{{.Name", "has a {{ without its counterpart"),
        ("Name}}", "has a }} without its counterpart"),
        ("{{range .Spec.Args}}", "{{range .Spec.Args}} in the template"),
        ("{{}}", "is not supported"),
        ("{{json}}", "is not supported"),
        ('{{index .Spec.Labels "nope"}}', "there is no 'nope'"),
        ("{{len .Spec.On}}", "object of type 'bool' has no len()"),
    ],
)
def test_wrong_templates_say_what_is_wrong(source: str, sentence: str) -> None:
    with pytest.raises(SwarmError) as caught:
        template.parse(source).render(DATA)
    assert sentence in str(caught.value)


def test_columns_are_at_least_ten_wide_and_three_apart() -> None:
    assert table.render([["ID", "NAME"], ["1", "a-long-name-x"], ["2", ""]]) == (
        "ID        NAME\n1         a-long-name-x\n2"
    )
    assert table.render([]) == ""


def test_long_cells_are_cut_with_an_ellipsis() -> None:
    assert table.shorten("abcdef", 6) == "abcdef"
    assert table.shorten("abcdefg", 6) == "abcde…"
