"""The output of the demonstration, line by line."""

from typing import Final, TextIO

from twisted.internet.interfaces import IReactorTime

from hbtd.simulator.bulk_update import Update

_NAMES_SHOWN: Final = 2
"""The most components that a line about an update names."""


class Transcript:
    """Prints the lines of the demonstration: seconds since its start, speaker, and text."""

    def __init__(self, clock: IReactorTime, out: TextIO) -> None:
        self._clock = clock
        self._out = out
        self._began = clock.seconds()

    def say(self, speaker: str, text: str) -> None:
        """Print a line: the seconds since the start, the speaker, and the text."""
        seconds = self._clock.seconds() - self._began
        print(f"{seconds:5.1f} s  {speaker:<5}  {text}", file=self._out, flush=True)

    def update(self, update: Update) -> None:
        """Print a line about an update that the fake HSM has applied."""
        names = " ".join(update.names[:_NAMES_SHOWN])
        more = len(update.names) - _NAMES_SHOWN
        shown = f"{names} +{more}" if more > 0 else names
        self.say(
            "HSM",
            f"{update.state}/{update.flag:<{13 - len(update.state)}} {update.message:<34}  {shown}",
        )
