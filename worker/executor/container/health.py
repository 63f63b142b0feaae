"""The health check that comes with an image. Pure."""

from __future__ import annotations

from swarmpy.model.spec import Healthcheck
from worker.oci.image import HealthDefaults

_DEFAULT = Healthcheck()


def image_health(check: HealthDefaults) -> Healthcheck:
    """Return an image's health check with the defaults where it says nothing."""
    return Healthcheck(
        test=check.test,
        interval_s=check.interval_s or _DEFAULT.interval_s,
        timeout_s=check.timeout_s or _DEFAULT.timeout_s,
        retries=check.retries or _DEFAULT.retries,
        start_period_s=check.start_period_s,
        start_interval_s=check.start_interval_s or _DEFAULT.start_interval_s,
    )
