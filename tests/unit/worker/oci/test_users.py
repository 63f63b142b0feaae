"""Who a container runs as, by the accounts of its image."""

from __future__ import annotations

import pytest

from swarmpy.errors import SwarmError
from worker.oci.users import Accounts, User, resolve

ACCOUNTS = Accounts(
    "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\nshort:x:5\n# no line\n7:x:8:9::/seven:\n",
    "root:x:0:\nwheel:x:10:root,web\nweb:x:102:\nlogs:x:7:web\nbad\n",
)


@pytest.mark.parametrize(
    ("user", "groups", "found"),
    [
        ("", (), User(0, 0, (0, 10), "/root")),
        ("root", (), User(0, 0, (0, 10), "/root")),
        ("web", (), User(101, 102, (102, 10, 7), "/srv")),
        ("101", (), User(101, 102, (102, 10, 7), "/srv")),
        ("web:logs", (), User(101, 7, (7,), "/srv")),
        ("web:55", (), User(101, 55, (55,), "/srv")),
        (":logs", (), User(0, 7, (7,), "/root")),
        ("1234", (), User(1234, 0, (0,), "/")),
        ("1234:5678", (), User(1234, 5678, (5678,), "/")),
        ("7", (), User(8, 9, (9,), "/seven")),  # a name goes before a number
        ("web", ("wheel", "99"), User(101, 102, (102, 10, 7, 99), "/srv")),
    ],
)
def test_users(user: str, groups: tuple[str, ...], found: User) -> None:
    assert resolve(user, groups, ACCOUNTS) == found


@pytest.mark.parametrize(
    ("user", "groups", "error"),
    [
        ("nobody", (), "no user 'nobody' in its /etc/passwd"),
        ("short", (), "no user 'short'"),
        ("web:staff", (), "no group 'staff' in its /etc/group"),
        ("web", ("staff",), "no group 'staff'"),
        ("4294967295", (), "out of range"),
        ("1:4294967295", (), "out of range"),
    ],
)
def test_who_is_refused(user: str, groups: tuple[str, ...], error: str) -> None:
    with pytest.raises(SwarmError, match=error):
        resolve(user, groups, ACCOUNTS)


def test_an_image_without_accounts_has_numbers() -> None:
    assert resolve("", (), Accounts()) == User(0, 0, (0,), "/")
    assert resolve("12", (), Accounts()) == User(12, 0, (0,), "/")
