"""Which placeholders (`{{.Task.Slot}}`) a spec may hold. The worker fills them in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

PLACEHOLDER: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")
NAMES: Final = (
    ".Service.ID",
    ".Service.Name",
    ".Node.ID",
    ".Node.Hostname",
    ".Node.Platform.OS",
    ".Node.Platform.Architecture",
    ".Task.ID",
    ".Task.Name",
    ".Task.Slot",
)
LABEL: Final = re.compile(r'\.Service\.Labels\.(?P<name>\S+)|index\s+\.Service\.Labels\s+"(?P<quoted>[^"]*)"')


def unknown_placeholders(text: str) -> Iterator[tuple[str, str]]:
    """Give each placeholder of `text` that there is not, with the list of those that there are."""
    for match in PLACEHOLDER.finditer(text):
        if match[1] not in NAMES and LABEL.fullmatch(match[1]) is None:
            yield match[0], ", ".join((*NAMES, ".Service.Labels.NAME"))
