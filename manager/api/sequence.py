"""Whether a change of a spec was built on the spec that is stored, though others have written the row since."""

from __future__ import annotations

from swarmpy.errors import Code, SwarmError


def check_in_sequence(what: str, version: int, spec_revision: int) -> None:
    """Refuse what was built on an older spec than the present one.

    Args:
        what: the row in words, such as `service web`.
        version: that of the row that the change was built on.
        spec_revision: of the stored row.
    Raises:
        SwarmError: OUT_OF_SEQUENCE.
    """
    if version < max(spec_revision, 1):
        raise SwarmError(
            Code.OUT_OF_SEQUENCE,
            f"update out of sequence: {what} was changed meanwhile (version {version} is older than "
            f"{max(spec_revision, 1)}): read it again and repeat the change",
        )
