/* Two replicas of hbtd, their etcd and HSM, and one component. README.md says what stands for what.
 *
 * Any process may do nothing for any time, so a replica may be suspended between any two steps.
 * All properties are checked, or, with -DCHECK_ONE, those that are named (-DCHECK_ONE_TELLER). The
 * tests break a rule each (-DNO_FENCE) and see which property that violates.
 */

#ifndef CHECK_ONE
#define CHECK_ONE_TELLER
#define CHECK_COMMITTED_FIRST
#define CHECK_SENT_IN_ORDER
#define CHECK_ONE_HISTORY
#define CHECK_MARKED_MEANS_TOLD
#define CHECK_TRUE_AT_REST
#endif

/* Time, in ticks. */
#define LEASE 2        /* etcd ends a lease no sooner than this after it was granted or renewed */
#define TERM 1         /* a replica leads for this long after it has asked: LEASE less MARGIN */
#define PATIENCE 1     /* an update is given up after this: Sm_timeout */
#define DOUBT 2        /* sooner than this, HSM has carried out what has left a replica, or never will */

/* Words: the transitions of hbtd/tracker/transitions.py, and what they make of HSM's row. */
#define STARTED 0
#define WARNED 1
#define RESTARTED 2
#define DIED 3
#define alarming(transition) ((transition) & 1)
#define row(transition) (alarming(transition) -> (transition) : STARTED)
#define follows(transition, before) (alarming(transition) -> \
    (before) != DIED && (before) != (transition) : \
    (before) == ((transition) == RESTARTED -> WARNED : DIED))

#define WORDS 3        /* how many judgements are committed; number 0 is known to all already */
#define NOT_COMMITTED 4
#define NOBODY 2

/* etcd: the lock and its lease, the judgement about the component, and those that it has replaced. */
byte owner = 0;
byte lease = LEASE;
byte newest = 0;
byte word[WORDS + 1];
bool delivered = true;

/* HSM: its row, and for each number whether an update with it may be carried out that nobody waits for
 * any more: before the next tick those in `last`, before the one after that those in `late`.
 */
byte table = STARTED;
bool late[WORDS + 1];
bool last[WORDS + 1];

/* For the properties. */
bool told = true;              /* whether HSM has carried out an update with the newest judgement */
byte newest_sent = 0;
bool calm = false;             /* whether nothing fails any more, and nobody is suspended */

/* Replicas: hbtd/replicas/, */
bool leading[2];
byte until[2];                 /* for how many ticks Leadership.held() is true */
byte renewal[2];               /* the ticks for which the answer to a renewal will let it lead */
/* hbtd/monitor.py, hbtd/store/, */
byte phase[2];                 /* the transition that the tracker has made last */
bool uncommitted[2];           /* whether that has yet to be committed */
bool asked[2];                 /* whether etcd was asked to commit it */
bool to_mark[2];               /* whether etcd was asked to mark the newest one as delivered */
/* and hbtd/hsm/. Judgements are numbers here, 0 if there is none. */
byte outbox[2];
byte connecting[2];            /* what is sent as soon as there is a connection */
byte flying[2];                /* what was sent, and not answered yet */
byte left[2];                  /* the ticks that HSM has left for it */
byte fate[2];
#define AWAY 0
#define DONE 1
#define LOST 2
byte abandoned[2];             /* InDoubt: the transitions of updates that were given up, as bits */
byte doubt[2];                 /* the ticks until HSM must have carried them out */
byte since[2];                 /* what HSM has acknowledged since */
byte looked[2];                /* at HSM's table, which was wrong */
#define ONCE 1
#define LONG_AGO 2

#define active(r) (leading[r] && owner == r)
#define withdraws(r, transition) (outbox[r] && alarming(word[outbox[r]]) && !alarming(transition))
#define superseded(r, judgement) (alarming(word[judgement]) && uncommitted[r] && !alarming(phase[r]))
#ifdef ENDLESS_DOUBT
#define may_settle(r) since[r]
#else
#define may_settle(r) (!flying[r])                        /* InDoubt.settled */
#endif
#ifdef UNSETTLED
#define settled(r) true
#else
#define settled(r) (!uncommitted[r] && !outbox[r] && !since[r])
#endif

/* InDoubt.abandoned */
inline abandon(r, judgement) {
    abandoned[r] = abandoned[r] | (1 << word[judgement]);
    doubt[r] = DOUBT;
    since[r] = 0
}

/* Nobody waits any more for the answer to the update in flight. */
inline let_go(r) {
    if
    :: flying[r] && fate[r] == AWAY && left[r] ->
        late[flying[r]] = true;
        last[flying[r]] = false
    :: flying[r] && fate[r] == AWAY && !left[r] -> last[flying[r]] = !late[flying[r]]
    :: else
    fi;
    flying[r] = 0;
    left[r] = 0;
    fate[r] = AWAY
}

/* Election._lead, EtcdStore.touch, Monitor.become_leader */
inline lead(r) {
    owner = r;
    lease = LEASE;
    until[r] = TERM;
    leading[r] = true;
    phase[r] = word[newest];
    if
    :: !delivered ->                                      /* Notifier.resume */
        abandoned[r] = 15;                                /* every transition */
        doubt[r] = DOUBT;
        outbox[r] = newest
    :: else
    fi;
#ifdef MENDED
    abandoned[r] = 15;
    doubt[r] = DOUBT
#endif
}

/* Whatever a replica knows that no longer holds the lock, it can only finish what it has begun. */
inline forget(r) {
    if
    :: !asked[r] ->
        phase[r] = 0;
        uncommitted[r] = false
    :: else                    /* etcd is yet to answer */
    fi;
    to_mark[r] = false;
    outbox[r] = 0;
    let_go(r);
    abandoned[r] = 0;
    doubt[r] = 0;
    since[r] = 0;
    looked[r] = 0
}

/* The lock's key goes with its lease. Who has nothing to finish may as well have noticed. */
inline end_lease(r) {
    owner = NOBODY;
    lease = 0;
    forget(r);
    leading[r] = until[r] || renewal[r] || connecting[r]
}

/* Monitor.become_follower */
inline step_down(r) {
    leading[r] = false;
    until[r] = 0;
    renewal[r] = 0;
    connecting[r] = 0
}

/* Monitor.commit, Notifier.judged */
inline judge(r, transition) {
    if
    :: withdraws(r, transition) -> outbox[r] = 0
    :: else
    fi;
    phase[r] = transition;
    uncommitted[r] = true;
    looked[r] = 0
}

/* _FencedBody.startProducing has let the body pass. */
inline send(r) {
#ifdef CHECK_ONE_TELLER
    assert(owner == r);
#endif
#ifdef CHECK_COMMITTED_FIRST
    assert(connecting[r] <= newest);
#endif
#ifdef CHECK_SENT_IN_ORDER
    assert(newest_sent <= connecting[r]);
#endif
    flying[r] = connecting[r];
    left[r] = DOUBT - 1;
    connecting[r] = 0;
    if
    :: flying[r] > newest_sent -> newest_sent = flying[r]
    :: else
    fi;
#ifdef MARKED_BEFORE_ANSWER
    to_mark[r] = (flying[r] == newest);
#endif
}

/* Notifier._acknowledged, InDoubt.acknowledged */
inline acknowledge(r) {
    if
    :: outbox[r] == flying[r] -> outbox[r] = 0
    :: else
    fi;
    if
    :: abandoned[r] == 1 << word[flying[r]] -> since[r] = 0
    :: abandoned[r] && abandoned[r] != 1 << word[flying[r]] -> since[r] = flying[r]
    :: else
    fi;
    if
    :: !since[r] -> to_mark[r] = (flying[r] == newest)
    :: else
    fi;
    let_go(r)
}

proctype Replica(bit r) {
end:
    do
    /* hbtd/replicas/election.py, hbtd/replicas/replica.py */
    :: d_step { owner == NOBODY && !leading[r] && !asked[r] -> lead(r) }
    :: d_step { leading[r] && owner == r && !renewal[r] && until[r] < TERM ->
        lease = LEASE;
        renewal[r] = TERM
    }
    :: d_step { renewal[r] ->
        if
        :: renewal[r] > until[r] -> until[r] = renewal[r]
        :: else
        fi;
        renewal[r] = 0
    }
    :: d_step { leading[r] && owner != r -> step_down(r) }
    :: d_step { active(r) && !calm ->                      /* it stops, or gives up its term */
        step_down(r);
        end_lease(r)
    }

    /* hbtd/monitor.py: whatever can follow is judged. */
    :: d_step { active(r) && !uncommitted[r] && newest < WORDS && follows(WARNED, phase[r]) ->
        judge(r, WARNED)
    }
    :: d_step { active(r) && !uncommitted[r] && newest < WORDS && follows(DIED, phase[r]) ->
        judge(r, DIED)
    }
    :: d_step { active(r) && !uncommitted[r] && newest < WORDS && follows(RESTARTED, phase[r]) ->
        judge(r, RESTARTED)
    }
    :: d_step { active(r) && !uncommitted[r] && newest < WORDS && follows(STARTED, phase[r]) ->
        judge(r, STARTED)
    }
    :: d_step { active(r) && uncommitted[r] && !asked[r] -> asked[r] = true }

    /* hbtd/hsm/notifier.py, hbtd/hsm/fencing.py */
    :: d_step { leading[r] && until[r] && outbox[r] && !connecting[r] && !flying[r] ->
        connecting[r] = outbox[r]
    }
#ifdef NO_FENCE
    :: d_step { connecting[r] -> send(r) }
#else
    :: d_step { connecting[r] && until[r] -> send(r) }
    :: d_step { connecting[r] && !until[r] -> connecting[r] = 0 }
#endif
    :: d_step { active(r) && flying[r] && fate[r] == DONE -> acknowledge(r) }
    :: d_step { active(r) && flying[r] && left[r] + PATIENCE < DOUBT && (!calm || fate[r] == LOST) ->
        abandon(r, flying[r]);
        let_go(r)
    }
    :: d_step { active(r) && abandoned[r] && !doubt[r] && may_settle(r) ->
#ifndef ENDLESS_DOUBT
        abandoned[r] = 0;
#endif
#ifndef NOT_REPEATED
        if
        :: since[r] && !outbox[r] && !superseded(r, since[r]) -> outbox[r] = since[r]
        :: else
        fi;
#endif
        since[r] = 0
    }

#ifndef NO_COMPARISON
    /* hbtd/hsm/reconciler.py */
    :: d_step { active(r) && !looked[r] && table != row(phase[r]) -> looked[r] = ONCE }
    :: d_step { active(r) && looked[r] == LONG_AGO ->
        if
        :: table != row(phase[r]) && settled(r) && !outbox[r] ->
            outbox[r] = (uncommitted[r] -> NOT_COMMITTED : newest)
        :: else
        fi;
        looked[r] = 0
    }
#endif
    od
}

/* Each request takes effect in one step, at any time after it was made. */
proctype Etcd(bit r) {
end:
    do
    :: d_step { owner == r && !lease -> end_lease(r) }
#ifdef UNFENCED_COMMITS
    :: d_step { asked[r] && newest < WORDS ->
#else
    :: d_step { asked[r] && owner == r ->                  /* EtcdWriter.write, fenced */
#endif
#ifdef CHECK_ONE_HISTORY
        assert(follows(phase[r], word[newest]));
#endif
        newest++;
        word[newest] = phase[r];
        delivered = false;
        told = false;
        asked[r] = false;
        uncommitted[r] = false;
        to_mark[r] = false;
        if
        :: leading[r] -> outbox[r] = newest
        :: else -> phase[r] = 0
        fi
    }
#ifndef UNFENCED_COMMITS
    :: d_step { asked[r] && owner != r ->
        asked[r] = false;
        uncommitted[r] = false;
        phase[r] = 0
    }
#endif
    :: d_step { to_mark[r] ->
        if
        :: owner == r ->
#ifdef CHECK_MARKED_MEANS_TOLD
            assert(told);
#endif
            delivered = true
        :: else
        fi;
        to_mark[r] = false
    }
    od
}

inline carry_out(judgement) {
    table = row(word[judgement]);
    told = told || judgement == newest
}

/* HSM carries out the update in flight of a replica, or rejects it, or never gets it. */
proctype HSM(bit r) {
end:
    do
    :: d_step { flying[r] && fate[r] == AWAY ->
        carry_out(flying[r]);
        fate[r] = DONE
    }
    :: d_step { flying[r] && fate[r] == AWAY && !calm ->
        flying[r] = 0;
        left[r] = 0
    }
    :: d_step { flying[r] && fate[r] == AWAY && !calm && !left[r] -> fate[r] = LOST }
    od
}

/* What nobody waits for is carried out at any time, or never. It may be there several times. */
#define matters(judgement) ((late[judgement] || last[judgement]) && \
    (calm || table != row(word[judgement]) || (judgement == newest && !told)))

inline carry_out_late(judgement) {
    carry_out(judgement);
    if
    :: calm ->
        late[judgement] = false;
        last[judgement] = false
    :: else
    fi
}

proctype Late() {
end:
    do
    :: d_step { matters(1) -> carry_out_late(1) }
    :: d_step { matters(2) -> carry_out_late(2) }
    :: d_step { matters(3) -> carry_out_late(3) }
    od
}

#define count_down(ticks) ticks = (ticks -> ticks - 1 : 0)
#define overdue(r) (flying[r] && fate[r] == AWAY && !left[r])
#define waits(r) (doubt[r] || looked[r] || flying[r])

inline tick(r) {
    count_down(until[r]);
#ifndef LEASE_FROM_ANSWER
    count_down(renewal[r]);
#endif
    count_down(doubt[r]);
    count_down(left[r]);
    if
    :: looked[r] -> looked[r] = LONG_AGO
    :: else
    fi
}

/* Time passes, whoever is suspended. When all is calm, it passes once nobody can do anything else. */
proctype Clock() {
end:
    do
    :: atomic { !overdue(0) && !overdue(1) &&
            (!calm || (timeout && (waits(0) || waits(1)))) ->
        d_step {
            tick(0);
            tick(1);
            count_down(lease);
            last[1] = late[1];
            last[2] = late[2];
            last[3] = late[3];
            late[1] = false;
            late[2] = false;
            late[3] = false
        }
    }
    od
}

/* In the end nothing fails any more, and after a while nothing is left to be done. */
proctype Rest() {
progress:                      /* once all is calm nothing can go on for ever */
    d_step { newest == WORDS -> calm = true };
    atomic { timeout && !waits(0) && !waits(1) ->
#ifdef CHECK_TRUE_AT_REST
        assert(owner != NOBODY && leading[owner] && until[owner]);
        assert(told);
        assert(table == row(word[newest]));
#else
        skip
#endif
    }
}

init {
    d_step {
        leading[0] = true;
        until[0] = TERM
    };
    atomic {
        run Replica(0);
        run Replica(1);
        run Etcd(0);
        run Etcd(1);
        run HSM(0);
        run HSM(1);
        run Late();
        run Clock();
        run Rest()
    }
}
