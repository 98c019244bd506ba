"""Makes hbtd known to twistd."""

from twisted.application.service import ServiceMaker

hbtd = ServiceMaker("hbtd", "hbtd.tap", "Heartbeat Tracking Service", "hbtd")
