"""What may wait in the kernel for longer than a person should."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

__all__ = ["Beside", "PATIENCE_SECONDS"]

# To let a program go, the kernel waits until each CPU has passed a point (synchronize_rcu). A
# real-time task that spins on a CPU can hold that up for as long as it likes (PREEMPT_RT).
PATIENCE_SECONDS = 0.4


class Beside:
    """A function that is called at once, in a thread of its own."""

    def __init__(self, call: Callable[[], object]) -> None:
        from threading import Thread  # not before something ends

        self._call = call
        self._failed: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads are allowed: then it is not beside
            self._run()

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self._failed = error

    def wait(self, seconds: float | None = PATIENCE_SECONDS) -> bool:
        """Wait for its end, at most so many seconds (None: as long as it takes); whether it has
        come. Raises, once, what the function has raised."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        return not self._thread.is_alive()
