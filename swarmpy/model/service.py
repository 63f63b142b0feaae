"""A service as stored: its spec, what was allocated to it, and how its update stands."""

from __future__ import annotations

from swarmpy.model.base import Model
from swarmpy.model.endpoints import ServicePort
from swarmpy.model.network import NetworkAddress
from swarmpy.model.spec import STACK_LABEL, EndpointSpec, ServiceSpec, TaskSpec
from swarmpy.model.states import UpdateState


class Endpoint(Model, frozen=True):
    """What the allocator gave: the VIP's index (0: none yet), the ports with their published numbers, and a virtual
    address on each of the service's networks.
    """

    vip_index: int = 0
    ports: tuple[ServicePort, ...] = ()
    vips: tuple[NetworkAddress, ...] = ()


class UpdateStatus(Model, frozen=True):
    """How the last rolling update stands; times are wall seconds, 0 before they are known."""

    state: UpdateState = UpdateState.NONE
    started_at: float = 0.0
    completed_at: float = 0.0
    message: str = ""


class Service(Model, frozen=True):
    """Writers: the specs and `spec_version` the API; `endpoint` the allocator; `update_status` the orchestrator.

    `version` is the store revision of the last change, `spec_revision` that of the last change of the spec: an
    update built on anything at or after it is in sequence. `spec_version` counts task templates from 1.
    `allocated_for` is the EndpointSpec that `endpoint` answers: the allocator sees by it what is left to do.
    """

    id: str
    spec: ServiceSpec
    version: int = 0
    spec_version: int = 1
    previous_spec: ServiceSpec | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    endpoint: Endpoint = Endpoint()
    allocated_for: EndpointSpec | None = None
    allocation_problem: str = ""
    update_status: UpdateStatus = UpdateStatus()
    spec_revision: int = 0

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def stack(self) -> str:
        """The stack that the service belongs to, or an empty string."""
        return self.spec.labels.get(STACK_LABEL, "")


class RegistryAuth(Model, frozen=True):
    """Who a user is to a registry, `host[:port]`: a name and a password, or an identity token.

    Secrets are not printed.
    """

    registry: str
    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"RegistryAuth(registry={self.registry!r}, username={self.username!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("registry", self.registry), ("username", self.username)]


class ServiceVersion(Model, frozen=True):
    """One immutable task template of a service: what a task with this `(service_id, spec_version)` runs.

    Kept while the service exists or a task refers to it. Sent once to each worker that needs it. `pull_auth` is what
    the image is pulled with; it may be renewed, and no user is ever answered with it.
    """

    id: str
    service_id: str
    number: int
    name: str
    task: TaskSpec
    labels: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    version: int = 0
    created_at: float = 0.0
    pull_auth: RegistryAuth | None = None


def version_id(service_id: str, number: int) -> str:
    """Return the id of a service's version: `<service id>.<number>`."""
    return f"{service_id}.{number}"
