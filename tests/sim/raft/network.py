"""The wires between members: they lose, delay, double, reorder and hold back messages, one direction at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from manager.raft.types import Message
from tests.sim.raft.loop import Timeline


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad the network is. Delays are microseconds.

    Args:
        loss, doubled: shares of the messages that never come, and that come twice.
        late: share of the doubles that come much later, when everybody has moved on.
        ordered: messages of one member to another keep their order, as on a stream.
    """

    least_us: int = 200
    most_us: int = 3_000
    loss: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    ordered: bool = True


LATE_US: Final = 4_000_000
FAIR: Final = Weather()


class Network:
    """Carries messages; `arrive` is given each of them, whether its member lives or not.

    Attributes:
        blocked: directed pairs that nothing passes.
    """

    def __init__(self, timeline: Timeline, rng: random.Random, arrive: Callable[[Message], None]) -> None:
        self._timeline, self._rng, self._arrive = timeline, rng, arrive
        self.weather = FAIR
        self.blocked: set[tuple[int, int]] = set()
        self._last_us: dict[tuple[int, int], int] = {}
        self.sent = self.lost = self.doubles = 0

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.sent += 1
            link = (message.sender, message.to)
            if link in self.blocked or self._rng.random() < self.weather.loss:
                self.lost += 1
                continue
            self._timeline.after(self._delay_us(link), lambda message=message: self._land(message))  # type: ignore[misc]  # a default in a lambda
            if self._rng.random() < self.weather.doubled:
                self.doubles += 1
                late = self._rng.random() < self.weather.late
                extra_us = self._rng.randrange(LATE_US) if late else self._rng.randrange(self.weather.most_us + 1)
                self._timeline.after(extra_us, lambda message=message: self._land(message))  # type: ignore[misc]  # as above

    def passes(self, sender: int, to: int) -> bool:
        """Return whether a piece of a longer stream gets through now."""
        return (sender, to) not in self.blocked and self._rng.random() >= self.weather.loss / 4

    def delay_us(self) -> int:
        return self._rng.randint(self.weather.least_us, self.weather.most_us)

    def _delay_us(self, link: tuple[int, int]) -> int:
        delay_us = self.delay_us()
        if not self.weather.ordered:
            return delay_us
        now_us = self._timeline.now_us
        at_us = max(now_us + delay_us, self._last_us.get(link, 0))
        self._last_us[link] = at_us
        return at_us - now_us

    def _land(self, message: Message) -> None:
        """What was on its way when the wire broke is lost with it."""
        if (message.sender, message.to) in self.blocked:
            self.lost += 1
        else:
            self._arrive(message)
