"""The guard by failure domain: when much of a domain falls silent at once, one thing is wrong.

A switch, a PDU or a firmware update silences hundreds of nodes that are not dead, or whose deaths
are no news of their own. The guard finds the failure domain (`hbtd.guard.domains`) that explains
such silences, so that people are told one thing; in the mode `hold`, HSM is told of deaths in it
only if they last.

**Silent** is here who has been silent for more than twice its own mean period
(`hbtd.guard.disruptions.silence_limit`, and `hbtd.guarding.watching.limit_of` for periods that
mislead); that is well before a death is due.

**Disrupted** is the smallest domain that explains silences of more than two of its living
components, and of at least `share` percent of them, that began within one `errtime` of each other
(`hbtd.guard.detection`). A disruption has as members those whose silences began within that
`errtime`, also if they are noticed later. Who was heard last before that is no member, and who
falls silent later is none either: its silence is looked at for itself, and may be that of another
disruption, even of the same domain.

**Nothing that gets better** makes a domain disrupted: only a new silence in it does, or that fewer
of its components are living.

**One statement** is made of each disruption, and another one when it ends. Components fall silent
one by one, in the time of one period, so that a slot is silent before its chassis is. Therefore a
disruption holds deaths from when it is found, but is told one mean period of its slowest member
later, or when the first death of a member is due. If its silences are found to be those of a larger
domain by then, only this larger one is told. If a disruption *spreads* later, within the `errtime`,
each domain that becomes disrupted is told, the larger one with the names of those told before that
are part of it now. Those parts do not end by a statement of their own.

**Held** are, in the mode `hold`, the deaths of the members that are not dead yet, each until
`hold` seconds after the beginning of the first disruption that explained its silence, however that
spreads. Nothing else is held: no warning, no return, nobody outside, nobody who was silent before.
A member that is heard is a member no more; the rest is held all the same.

**The end** of a disruption comes when all members are back (or forgotten, or in maintenance), when
`hold` seconds have passed, or when an operator releases it. A silence that was explained once is
never held again, and makes no other domain disrupted. A component that was heard again and falls
silent once more begins a new silence, with all that follows.

**After a gap or a start** of hbtd, nodes that have yet to connect again are no fallen domain.
Silences that began before `steady_since`, the time since which hbtd has heard without a gap, make
no domain disrupted for one `warntime` after it, unless these components were silent before the gap.
(They are members of what is disrupted already.) If that is earlier, a silence counts one period
before its death is due; of who had been warned about before a start, when its death is due.

**A restart or a change of the leader** continues disruptions (`snapshot`, `restore`), each with
what is left of its hold. Observed clocks differ, so silences that began up to one `errtime` before
the first one are of a disruption that is continued, unless another one explains them strictly.

So every effect is bounded in time: nobody's death waits longer than `hold` from the beginning of
the first disruption of its silence, whatever happens.

`hbtd.guard.rules` applies the rules, `hbtd.guard.detection` finds the domain that explains who is
silent, and `hbtd.guard.groups` reads an operator's own domains. This package has no I/O but for
that file, and does not use Twisted: what depends on the current time takes it as an argument. All
times are observed seconds (`hbtd.tracker.observed`).
"""
