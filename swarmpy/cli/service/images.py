"""What a service's image stands for, and whom its tasks pull it as: found out before the service is sent.

With a digest in place of a tag that moves, all tasks run the same content, whichever node pulls it and when.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import msgspec

from swarmpy.cli.given import Given, usage_error
from swarmpy.cli.session import Session
from swarmpy.errors import Code, SwarmError
from swarmpy.model.service import RegistryAuth
from swarmpy.model.spec import ServiceSpec
from swarmpy.notation.images import without_digest

if TYPE_CHECKING:
    from swarmpy.client import Client

ASK_TIMEOUT_S: Final = 15.0
"""A registry that does not answer holds a command up for so long; the nodes may reach it by another way."""


class ResolveImage(enum.IntEnum):
    """When a registry is asked which digest a tag has: at each change, if the image is another, or not at all."""

    ALWAYS = 0
    CHANGED = 1
    NEVER = 2


def resolve_image(given: Given, default: ResolveImage) -> ResolveImage:
    """Return what the flags ask for."""
    if not given.switch("no-resolve-image"):
        chosen = given.choice("resolve-image", ResolveImage)
        return default if chosen is None else chosen
    if given.any("resolve-image"):
        raise usage_error("--no-resolve-image and --resolve-image say the same thing: give one of them")
    return ResolveImage.NEVER


class ImageDesk:
    """Answers for one command: each registry is asked once about each image.

    Args:
        with_auth: hand this user's credentials to the nodes.
    """

    def __init__(self, session: Session, client: Client, policy: ResolveImage, *, with_auth: bool) -> None:
        self._session = session
        self._client = client
        self._policy = policy
        self._with_auth = with_auth
        self._asked: dict[str, str] = {}

    async def resolved(self, spec: ServiceSpec, before: ServiceSpec | None = None) -> ServiceSpec:
        """Return the spec with the digest of its image, where the policy asks for one.

        A registry that cannot be asked is said and no error: the nodes may be able to, or have the image.

        Args:
            before: the spec that is there; an image that is the same by name keeps its digest unless it is asked anew.

        Raises:
            SwarmError: INVALID_ARGUMENT, the name of the image or the user's configuration cannot be read.
        """
        image = spec.task.container.image
        if not image:
            return spec
        kept = image if before is None else _same_by_name(image, before.task.container.image)
        is_known = before is not None and kept is not None
        if self._policy is ResolveImage.NEVER or (self._policy is ResolveImage.CHANGED and is_known):
            return _with_image(spec, kept or image)
        tag = without_digest(image)
        if "@" in tag:
            return spec
        return _with_image(spec, await self._ask(tag) or kept or image)

    async def credentials(self, spec: ServiceSpec) -> RegistryAuth | None:
        """Return whom the service's tasks are to pull as; None if nothing is to be handed over."""
        if not self._with_auth or not spec.task.container.image:
            return None
        from swarmpy.cli.image.credentials import auth_for
        from swarmpy.registry.reference import parse_reference

        found = await auth_for(self._session, spec.task.container.image)
        if found is None:
            registry = parse_reference(spec.task.container.image).domain
            self._session.warn(f"Warning: you have no credentials for {registry}: use `swarmpy login {registry}` first")
        return found

    async def _ask(self, tag: str) -> str:
        """Return the image with its digest; an empty string if it cannot be had, which is said once."""
        if tag in self._asked:
            return self._asked[tag]
        import asyncio

        from swarmpy.cli.image.credentials import auth_for

        auth = await auth_for(self._session, tag)
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                found = await self._client.images.resolve(tag, auth=auth)
        except (SwarmError, TimeoutError) as error:
            if isinstance(error, SwarmError) and error.code is Code.INVALID_ARGUMENT:
                raise
            reason = error.message if isinstance(error, SwarmError) else f"no answer within {ASK_TIMEOUT_S:g} s"
            self._session.warn(
                f"Warning: the digest of {tag} is not known, so nodes may come to run different contents: {reason}"
            )
            found = ""
        self._asked[tag] = found
        return found


def _same_by_name(image: str, before: str) -> str | None:
    """Return the present image if it is this one, perhaps with a digest."""
    from swarmpy.registry.reference import parse_reference

    if image == before:
        return before
    if "@" in image or "@" not in before:
        return None
    same = str(parse_reference(image)) == str(parse_reference(without_digest(before)))
    return before if same else None


def _with_image(spec: ServiceSpec, image: str) -> ServiceSpec:
    container = msgspec.structs.replace(spec.task.container, image=image)
    return msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, container=container))
