"""A leader's sending: brings every other member's log to its own (5.3), by entries where it can, else by a snapshot.

Nothing is sent at once. What may be sent is found out when the core is asked what is ready, so that all that came in
meanwhile shares messages.
"""

from __future__ import annotations

from manager.raft.config import CoreConfig
from manager.raft.member import Member
from manager.raft.progress import Inflights, Progress
from manager.raft.quorum import VoteResult
from manager.raft.types import (
    Entry,
    Message,
    MessageKind,
    PeerState,
    PeerStatus,
)


class Replication:
    """The other members of one leadership.

    Attributes:
        is_due: something happened since `send_due` that may have made something due.
    """

    def __init__(self, member: Member) -> None:
        self._member = member
        self._peers: dict[int, Progress] = {}
        self.is_due = True
        self.follow_members(member.log.last_index + 1)

    def follow_members(self, next_index: int) -> None:
        """Keep the members of the present configuration and no others; new ones are probed at `next_index`."""
        known, config = self._peers, self._member.config
        others = sorted(self._member.configuration.members - {self._member.id})
        self._peers = {i: known.get(i) or _new_peer(next_index, config) for i in others}
        self.is_due = True

    def knows(self, member_id: int) -> bool:
        return member_id in self._peers

    def stored(self, member_id: int) -> int | None:
        """Return the last entry that a member is known to have stored; None if it is none of ours."""
        if member_id == self._member.id:
            return self._member.log.stable_index
        peer = self._peers.get(member_id)
        return None if peer is None else peer.match

    def has_all(self, member_id: int) -> bool:
        """Return whether a member has the whole log, so that it can win an election."""
        return self.stored(member_id) == self._member.log.last_index

    def statuses(self) -> tuple[PeerStatus, ...]:
        """Return what is known of every member, this one included, in order of their ids."""
        member, learners = self._member, self._member.configuration.learners
        found = {
            i: peer.status(i, is_learner=i in learners, active=self._is_active(peer)) for i, peer in self._peers.items()
        }
        if member.id in member.configuration.members:
            stable, last = member.log.stable_index, member.log.last_index
            learns = member.id in learners
            found[member.id] = PeerStatus(member.id, stable, last + 1, PeerState.REPLICATE, learns, active=True)
        return tuple(found[i] for i in sorted(found))

    # Time

    def tick(self) -> None:
        for peer in self._peers.values():
            peer.silent_ticks += 1

    def hears_a_majority(self) -> bool:
        """Return whether so many voters were heard of within the last election time-out that it may lead on."""
        votes = {i: self._is_active(peer) for i, peer in self._peers.items()}
        votes[self._member.id] = True
        return self._member.configuration.voters.vote_result(votes) is VoteResult.WON

    def send_heartbeats(self, context: bytes) -> None:
        """Say to everybody that this member leads; the commit index is no news of entries that may be missing."""
        member = self._member
        for i, peer in self._peers.items():
            commit = min(peer.match, member.commit)
            member.send(Message(MessageKind.HEARTBEAT, member.id, i, member.term, commit=commit, context=context))

    # What comes back

    def heard(self, message: Message) -> None:
        """Note any sign of life of a member."""
        self._peers[message.sender].silent_ticks = 0

    def heartbeat_answered(self, message: Message) -> None:
        """A probe that was not answered is lost, most likely; and whoever lags is asked where it is."""
        peer = self._peers[message.sender]
        peer.is_paused = False
        if peer.match < self._member.log.last_index or peer.state is PeerState.PROBE:
            peer.is_poked = self.is_due = True

    def accepted(self, message: Message) -> bool:
        """Take an APPEND_RESPONSE; returns whether more is known to be stored now."""
        peer, log = self._peers[message.sender], self._member.log
        if message.index > log.last_index:
            self._member.ignore("acknowledges entries that the leader does not have")
            return False
        is_news = peer.advance(message.index)
        if is_news or peer.match == message.index:
            if peer.state is PeerState.PROBE or (
                peer.state is PeerState.SNAPSHOT and message.index + 1 >= log.first_index
            ):
                peer.replicate()
            elif peer.state is PeerState.REPLICATE:
                peer.inflights.free(message.index)
        self.is_due = True
        return is_news

    def refused(self, message: Message) -> None:
        """Take an APPEND_RESPONSE with `reject`: skip the terms in which the logs cannot agree."""
        agreed = message.reject_index
        if message.log_term > 0:
            agreed, _ = self._member.log.last_within(message.log_term, agreed)
        if self._peers[message.sender].retreat(message.index, agreed):
            self.is_due = True
        else:
            self._member.ignore("refuses what was settled since")

    def lost(self, member_id: int) -> None:
        """Messages to a member were lost: what was in flight must not be taken for granted."""
        peer = self._peers.get(member_id)
        if peer is not None and peer.state is PeerState.REPLICATE:
            peer.probe()
            self.is_due = True

    def poke(self, member_id: int) -> None:
        """Send a member what it lacks, without waiting for what was asked before."""
        peer = self._peers[member_id]
        peer.is_paused, peer.is_poked, self.is_due = False, True, True

    def snapshot_ended(self, member_id: int, *, ok: bool) -> None:
        """A snapshot was delivered or not: probe behind it (or again), once the member answers or is heard of."""
        peer = self._peers.get(member_id)
        if peer is None or peer.state is not PeerState.SNAPSHOT:
            return
        if not ok:
            peer.pending_snapshot = 0
        peer.probe()
        peer.is_paused = True

    # Sending

    def send_due(self) -> None:
        """Send what there is to send and every member can take."""
        self.is_due = False
        for member_id, peer in self._peers.items():
            while self._send_once(member_id, peer):
                pass

    def _send_once(self, to: int, peer: Progress) -> bool:
        """Send one message; returns whether there may be more."""
        member, log = self._member, self._member.log
        if peer.state is PeerState.SNAPSHOT:
            return False
        behind = peer.next <= log.last_index
        if not (peer.may_send_entries and (behind or peer.is_poked)) and not (
            peer.state is PeerState.REPLICATE and (peer.is_poked or peer.wants_commit(member.commit))
        ):
            return False
        before = peer.next - 1
        if before < log.first_index - 1:
            self._send_snapshot(to, peer)
            return False
        entries: tuple[Entry, ...] = ()
        if behind and peer.may_send_entries:
            entries = log.between(peer.next, log.last_index, max_bytes=member.config.max_message_bytes)
        member.send(
            Message(
                MessageKind.APPEND,
                member.id,
                to,
                member.term,
                log_term=log.term(before),
                index=before,
                commit=member.commit,
                entries=entries,
            )
        )
        peer.sent(len(entries), sum(len(entry.data) for entry in entries), member.commit)
        return bool(entries)

    def _send_snapshot(self, to: int, peer: Progress) -> None:
        """Send the newest snapshot, but only where somebody is there to take it."""
        member = self._member
        assert member.snapshot.index >= member.log.first_index - 1, "the log is compacted up to a snapshot at most"
        if not self._is_active(peer):
            peer.is_poked = False
            return
        member.send(Message(MessageKind.SNAPSHOT, member.id, to, member.term, snapshot=member.snapshot))
        peer.await_snapshot(member.snapshot.index)

    def _is_active(self, peer: Progress) -> bool:
        return peer.silent_ticks < self._member.config.election_ticks


def _new_peer(next_index: int, config: CoreConfig) -> Progress:
    return Progress(next_index, Inflights(config.max_inflight, config.max_inflight_bytes))
