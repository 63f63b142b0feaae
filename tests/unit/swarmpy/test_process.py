"""A folder of the state directory serves one process at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.process import locked


def test_a_second_process_is_refused_until_the_first_one_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "manager"
    with locked(folder):
        with pytest.raises(SwarmError) as caught, locked(folder):
            pass
        assert (caught.value.code, caught.value.message) == (
            Code.FAILED_PRECONDITION,
            f"{folder} is in use by another process",
        )
    with locked(folder):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "manager").write_bytes(b"")
    with (
        pytest.raises(SwarmError, match=f"cannot use {tmp_path / 'manager'}: File exists"),
        locked(tmp_path / "manager"),
    ):
        pass
