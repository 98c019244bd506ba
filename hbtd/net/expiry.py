"""Log lines about the expiry of certificates that hbtd presents or trusts."""

import math
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.net.chains import Expiring
from hbtd.runtime.periodic import PeriodicService

NOTICES = (30, 7, 1, 0)
"""The numbers of days before a certificate's expiry at which lines are logged; 0: at the expiry."""

_NOT_YET = 10_000
"""The number that stands for the notice that a certificate is not valid yet; see `NOTICES`."""

_PERIOD = 600.0
"""Seconds between two checks of the expiry."""


def due_notice(expires: datetime, now: datetime, last: int | None) -> int | None:
    """Return the element of `NOTICES` for which a line is due at `now`; `None` if none is due.

    `expires` is the time at which the certificate expires. `last` is the element for which a line
    was logged last, or `None` if none was logged. Only elements less than `last` are due.
    """
    left = expires - now
    due = min((days for days in NOTICES if left <= timedelta(days=days)), default=None)
    return due if due is not None and (last is None or due < last) else None


class ExpiryNotices(PeriodicService):
    """Logs when certificates and revocation lists are about to expire, and when they have expired.

    Each notice is logged once, even if the certificate's file is read again. If the wall clock is
    set back so far that no notice is due, all notices may be logged once more.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        expiring: Callable[[], Iterable[Expiring]],
        now: Callable[[], datetime],
    ) -> None:
        """Make a service that logs the notices that are due, every ten minutes of `clock`.

        `expiring` returns the certificates and revocation lists in use; `now` returns the current
        date and time, with a time zone.
        """
        super().__init__(clock, _PERIOD, self.check, "the check of certificates' expiry")
        self._expiring = expiring
        self._utcnow = now
        self._last: dict[tuple[str, object], int | None] = {}

    def check(self) -> None:
        """Log the notices that are due; call this method also when certificates have changed."""
        now = self._utcnow()
        before, self._last = self._last, {}
        for each in self._expiring():
            key = (each.what, each.certificate)
            self._last[key] = self._noted(each, now, before.get(key))

    def _noted(self, expiring: Expiring, now: datetime, last: int | None) -> int | None:
        """Log the notice that is due, if any; return the latest notice that was logged, if any.

        A notice is one of `NOTICES`, or `_NOT_YET`. `last` is the previous result for the same
        certificate.
        """
        begins = expiring.certificate.not_valid_before_utc
        expires = expiring.certificate.not_valid_after_utc
        if begins > now:
            if last != _NOT_YET:
                self._log.warn(
                    "{what} is not valid before {begins}; this host's clock says {now}.",
                    what=expiring.what,
                    begins=begins.isoformat(),
                    now=now.isoformat(timespec="seconds"),
                )
            return _NOT_YET
        if due_notice(expires, now, None) is None or (now < expires and not expiring.early):
            return None
        due = due_notice(expires, now, last)
        if due is None:
            return last
        if due == 0:
            log = self._log.error if expiring.severe else self._log.warn
            log(
                "{what} expired on {expires}; {consequence}",
                what=expiring.what,
                expires=expires.isoformat(),
                consequence=expiring.consequence,
            )
        else:
            self._log.warn(
                "{what} expires on {expires}, in at most {days} days.",
                what=expiring.what,
                days=max(1, math.ceil((expires - now) / timedelta(days=1))),
                expires=expires.isoformat(),
            )
        return due
