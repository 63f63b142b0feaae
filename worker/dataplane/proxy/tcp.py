"""A connection carried as bytes."""

from __future__ import annotations

from worker.dataplane.proxy.connection import Connection
from worker.dataplane.proxy.end import End


class TcpConnection(Connection):
    """Both directions go on by themselves: the end of one is passed on, and the other continues."""

    __slots__ = ()

    def begin(self) -> None:
        self.dial()

    def _start(self, upstream: End) -> None:
        upstream.blocked = False
        if not self.preamble or upstream.write(self.preamble):
            self.client.unblock()

    def on_end_of_stream(self, end: End) -> None:
        peer = end.peer
        if not peer.pending:
            self._pass_end(end, peer)

    def on_flushed(self, end: End) -> None:
        source = end.peer
        if source.at_eof:
            self._pass_end(source, end)
        else:
            source.unblock()

    def _pass_end(self, source: End, sink: End) -> None:
        if sink.at_eof and not source.pending:
            self.close()
        else:
            sink.shut_down_writing()
