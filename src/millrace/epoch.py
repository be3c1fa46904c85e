"""What an engine needs so that a journal can go on under a new epoch: abilities beside the ports, for who looks after an installation.

An epoch is a number that a journal's positions belong to. It changes when the positions above some point have been given to facts that the
store has lost: these facts are in the log under the old epoch, and what the store says next takes the same positions under a new one.

Neighbours: `recovery` opens epochs, `moving` brings them along; engines have the abilities.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class SourceEpochs(Protocol):
    """A log (its administration) that can be told where a source stands."""

    async def begin_epoch(self, source: str, epoch: int, *, position: int, rows: int) -> None:
        """Let a source go on above a journal position; of what is below, `rows` rows count as published. Twice the same is once.

        Raises:
            Recovery: the epoch has begun with other figures.
        """
        ...


@runtime_checkable
class JournalEpochs(Protocol):
    """A store's transaction that can give the journal a new epoch."""

    async def open_epoch(self, epoch: int) -> None:
        """Give the journal another epoch when the transaction commits; its positions go on where they are."""
        ...


__all__ = ["JournalEpochs", "SourceEpochs"]
