"""The managers' addresses as both clients call them: each with what calls to it carry, one of them
at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from titan.client import reach, retry
from titan.client.connection import Access, Credentials
from titan.errors import AccessDenied
from titan.rpc.addresses import Addresses

Channel = TypeVar("Channel")
Stub = TypeVar("Stub")


class Line(Generic[Channel, Stub]):
    """To one address: its channel is opened when the first call is made."""

    def __init__(
        self,
        address: str,
        given: Credentials,
        open_line: Callable[[str, Access], tuple[Channel, Stub]],
    ) -> None:
        """Raises ValueError where there is nothing to prove with who calls, or it is wrong."""
        self.address = address
        self.access = Access(address, given)
        self.was_reached = False
        """Whether a connection was made by hand; where there are others, one that fails is made so
        once more before it is called again."""
        self.has_failed = False
        """Whether a call has failed since one was answered."""
        self.denied: AccessDenied | None = None
        """Why it can't be called, if its manager has not let this caller in."""
        self._open_line = open_line
        self._opened: tuple[Channel, Stub] | None = None

    @property
    def stub(self) -> Stub:
        """Its calls."""
        if self._opened is None:
            self._opened = self._open_line(self.address, self.access)
        return self._opened[1]

    @property
    def channel(self) -> Channel | None:
        """Its channel; None: nothing was called there."""
        return None if self._opened is None else self._opened[0]


class Lines(Generic[Channel, Stub]):
    """All of them, and which is called now."""

    def __init__(
        self,
        addresses: tuple[str, ...],
        given: Credentials,
        open_line: Callable[[str, Access], tuple[Channel, Stub]],
    ) -> None:
        """Raises ValueError as a `Line`."""
        self.addresses = Addresses(addresses)
        self._lines = {each: Line(each, given, open_line) for each in addresses}
        self._was_reached = False

    @property
    def current(self) -> Line[Channel, Stub]:
        """The one that is called now."""
        return self._lines[self.addresses.current]

    def others(self, line: Line[Channel, Stub]) -> Iterator[Line[Channel, Stub]]:
        """All but that one."""
        return (each for each in self._lines.values() if each is not line)

    def channels(self) -> Iterator[Channel]:
        """Those that were opened."""
        for line in self._lines.values():
            if line.channel is not None:
                yield line.channel

    @property
    def is_ready(self) -> bool:
        """Whether the current one can be called; else `reach` is due."""
        return self.current.was_reached

    def reach(self, repeats: retry.Repeats) -> retry.Failure | None:
        """Goes on to one that can be connected to; a failure: none of those untried can be.

        Takes up to a second for each. Raises ManagerUnreachable if none of them ever was.
        """
        self._reach_first()
        while not (line := self.current).was_reached:
            try:
                reach.connect(line.address)
            except OSError as error:
                said = reach.why_unreached(error)
                if not self.addresses.failed(line.address, said, repeats.tried):
                    return retry.Failure(retry.AWAY, self.addresses.describe())
            else:
                line.was_reached = True
        return None

    def answered(self, line: Line[Channel, Stub], repeats: retry.Repeats) -> None:
        """A call did what it was to do."""
        line.denied = None
        line.has_failed = False
        if self.addresses.are_several:
            self.addresses.answered(repeats.tried)

    def explain(self, line: Line[Channel, Stub], failure: retry.Failure) -> None:
        """Raises AccessDenied as `Access.explain`. Takes up to some seconds."""
        # A machine that is down is not asked at length while there is another.
        if not self.addresses.are_several or line.has_failed:
            line.access.explain(failure)

    def failed(
        self, line: Line[Channel, Stub], failure: retry.Failure, repeats: retry.Repeats
    ) -> tuple[retry.Failure, bool]:
        """What becomes of a failure that another address may not have, and whether to call that
        one at once."""
        is_here = failure.is_still_reading or failure.is_busy
        if not self.addresses.are_several or is_here or failure.status not in retry.TRANSIENT:
            return failure, False
        if failure.leader is None:
            line.has_failed = True
            line.was_reached = False
        said = failure.details or failure.status.name
        at_once = self.addresses.failed(
            line.address, said, repeats.tried, leader=failure.leader or ""
        )
        return failure._replace(details=self.addresses.describe()), at_once

    def refused(self, line: Line[Channel, Stub], error: AccessDenied) -> retry.Failure:
        """What becomes of a refusal where others may let this caller in. Raises AccessDenied when
        none does."""
        line.denied = error
        if all(each.denied is not None for each in self._lines.values()):
            raise error
        return retry.Failure(retry.AWAY, str(error))

    def _reach_first(self) -> None:
        """The first connection of all is made to whichever is quickest."""
        if self._was_reached:
            return
        said: dict[str, str] = {}

        def failed(address: str, error: OSError) -> None:
            said[address] = reach.why_unreached(error)

        found = reach.connect_first(self.addresses.all, failed)
        if found is None:
            raise retry.no_answer([(each, said[each]) for each in self.addresses.all])
        self._was_reached = True
        self.addresses.current = found
        self._lines[found].was_reached = True
