"""What takes long to make and makes the next runs faster: made once it has been asked for often enough, and kept."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Amortized(Generic[Made]):
    """What was made, by what it is for. The oldest are let go.

    What could not be made is not tried again, and the user is told.
    """

    def __init__(self, most: int, worth: int, without: str):
        """Keep so many, each made when it was asked for `worth` times; `without` says what is done where that fails."""
        self.most, self.worth, self._without = most, worth, without
        self._made: OrderedDict[Hashable, Made | None] = OrderedDict()  # None: could not be
        self._asked: OrderedDict[Hashable, int] = OrderedDict()  #: how often, of what is not made yet
        self._lock = RLock()  # nor does torch trace in two threads at once

    def __len__(self) -> int:
        return len(self._made)

    def ready(self, key: Hashable) -> Made | None:
        """Return what was made for it, if anything was."""
        return self._made.get(key)

    def of(self, key: Hashable, make: Callable[[], Made]) -> Made | None:
        """Return what is made for it, or None while that is not worth it."""
        with self._lock:
            if key not in self._made:
                asked = self._asked.pop(key, 0)
                if asked < self.worth:
                    self._asked[key] = asked + 1
                    self._shorten(self._asked)
                    return None
                self._made[key] = self._try(make)
            self._made.move_to_end(key)
            self._shorten(self._made)
            return self._made[key]

    def give_up(self, key: Hashable, why: str) -> None:
        """Do from now on without what was made for it, and tell the user."""
        with self._lock:
            self._made[key] = None
        warnings.warn(f"{self._without}: {why}", stacklevel=2)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._made.clear()
            self._asked.clear()

    def _try(self, make: Callable[[], Made]) -> Made | None:
        try:
            return make()
        except Exception as error:  # that of a recorder may be of any type
            warnings.warn(f"{self._without}: {error}", stacklevel=2)
            return None

    def _shorten(self, table: OrderedDict) -> None:
        while len(table) > self.most:
            table.popitem(last=False)
