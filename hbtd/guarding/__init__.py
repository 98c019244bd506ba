"""The guard at work: its rules (`hbtd.guard`) applied to the tracker, the store and the clock.

The leader asks the guard before each sweep (`hbtd.guarding.live_guard`). Nothing is done when a
heartbeat arrives: who begins or ceases to live is noted by the tracker (`hbtd.tracker.turnover`),
and who is silent is looked for only when a death is due (`hbtd.guarding.watching`).

What the guard finds is said in statements (`hbtd.guarding.statements`). With them, what is
disrupted is kept in the settings of the store (`hbtd.guarding.shared`). So all replicas know it at
once, and the next leader or process continues it.
"""
