"""The commands of hbtctl: their descriptions, examples and arguments."""

from argparse import Action, ArgumentError, ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hbtd.ctl.values import count, duration, limit, page, period, seconds


class Command(NamedTuple):
    """A command: its texts for `--help`, and the function that adds its arguments to a parser."""

    name: str
    usage: str
    group: str
    summary: str
    text: str
    examples: Sequence[str]
    add: Callable[[ArgumentParser], None]


STATES_HELP = (
    "states, separated by commas: ok (healthy), warned, dead, alive (ok or warned), silent (warned"
    " or dead)"
)

_SUFFIX_TEXT = """\
A suffix to the state says that HSM does not know it: * it waits to be told, for
HSM was not ready, or is being told just now; ! HSM rejects this component, which
is set aside and retried; ~ it was told, but the answer is in doubt; ? it was told
several times, but somebody else writes it, too. Without a suffix HSM was told, or
this replica does not know."""


def _add_names(
    parser: ArgumentParser, *, needed: bool = False, none: str = "; all if none is given"
) -> None:
    parser.add_argument(
        "names",
        metavar="NODESET",
        nargs="+" if needed else "*",
        help="components" + ("" if needed else none),
    )


class _Once(Action):
    """An option that must not be repeated, since its last value would silently replace others."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Store the value; fail if there is one already."""
        if getattr(namespace, self.dest) is not None:
            raise ArgumentError(self, "give it once")
        setattr(namespace, self.dest, values)


def _add_under(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--under", metavar="XNAME", action=_Once,
        help="only components within one cabinet, chassis or slot",
    )  # fmt: skip


def _add_status(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit with status 1 if any is silent, and not in maintenance",
    )


def _add_list(parser: ArgumentParser) -> None:
    _add_names(parser)
    parser.add_argument("--state", metavar="STATE", help=f"{STATES_HELP}, maintenance")
    parser.add_argument("--type", metavar="TYPE", help="only of this type of HSM's, such as Node")
    parser.add_argument(
        "--flapping", action="store_true", help="only those that change again and again"
    )
    _add_under(parser)
    parser.add_argument("--limit", metavar="N", type=count, default=0, help="at most N components")
    parser.add_argument(
        "--columns", metavar="NAME,...", help="these columns alone; -o wide shows which there are"
    )


def _add_tree(parser: ArgumentParser) -> None:
    _add_names(parser)
    _add_under(parser)
    parser.add_argument("--down", action="store_true", help="only where something is silent")


def _add_why(parser: ArgumentParser) -> None:
    _add_names(parser, needed=True)


def _add_watch(parser: ArgumentParser) -> None:
    _add_names(parser)
    _add_under(parser)


def _add_events(parser: ArgumentParser) -> None:
    _add_names(parser)
    _add_under(parser)
    parser.add_argument(
        "-f", "--follow", action="store_true", help="print further ones, until Ctrl-C"
    )
    parser.add_argument(
        "-n", "--last", metavar="N", type=page, default=20, help="begin with the last N (20)"
    )
    parser.add_argument(
        "--after", metavar="NUMBER", type=count, help="begin after this number of the log instead"
    )


def _add_history(parser: ArgumentParser) -> None:
    _add_names(parser)
    _add_under(parser)
    parser.add_argument("--since", metavar="TIME", help="from this time on")
    parser.add_argument("--until", metavar="TIME", help="before this time")
    parser.add_argument("--at", metavar="TIME", help="everybody's state at this time instead")
    parser.add_argument("--state", metavar="STATE", help=f"with --at, {STATES_HELP}")
    parser.add_argument("--newest", action="store_true", help="newest first")
    parser.add_argument(
        "--limit", metavar="N", type=count, default=1000, help="at most N (1000); 0 for all"
    )


def _add_whatif(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--warntime", metavar="SECONDS", type=limit, help="silence before a warning (as in force)"
    )
    parser.add_argument(
        "--errtime", metavar="SECONDS", type=limit, help="silence before death (as in force)"
    )
    parser.add_argument(
        "--since", metavar="TIME", help="from this time on (as far back as is known)"
    )


def _add_wait(parser: ArgumentParser) -> None:
    _add_names(parser, none=", unless there is --under")
    _add_under(parser)
    parser.add_argument(
        "--state", metavar="STATE", default="ok", help=f"{STATES_HELP}, gone (not tracked) (ok)"
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=600.0, help="how long (600)"
    )
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=period,
        default=2.0,
        help="time between questions (2)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing if they are")


def _add_send(parser: ArgumentParser) -> None:
    parser.add_argument("xname", metavar="XNAME", help="in whose name")
    parser.add_argument(
        "--period", metavar="SECONDS", type=period, default=3.0, help="time between two (3)"
    )
    parser.add_argument("--hostname", metavar="NAME", help="the hostname (this host's)")
    parser.add_argument("--nid", metavar="NUMBER", default="0", help="the NID (0)")
    parser.add_argument("--status", metavar="TEXT", default="OK", help="the status (OK)")
    parser.add_argument("--count", metavar="N", type=count, default=0, help="end after N")
    parser.add_argument(
        "--leave", action="store_true", help="at the end have it forgotten, without an alarm"
    )


def _add_forget(parser: ArgumentParser) -> None:
    _add_names(parser, none=", unless there is --under")
    _add_under(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="don't ask")


def _add_maintenance(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action", metavar="ACTION", nargs="?", default="list",
        choices=("list", "start", "change", "end"), help="list (default), start, change or end",
    )  # fmt: skip
    parser.add_argument(
        "names", metavar="NODESET|ID", nargs="*",
        help="to start, the components; otherwise the IDs of maintenances",
    )  # fmt: skip
    parser.add_argument(
        "--for", dest="seconds", metavar="TIME", type=duration,
        help="how long from now: 90s, 15m, 2h, 7d",
    )  # fmt: skip
    parser.add_argument(
        "--until", metavar="TIME",
        help="until a time, or back: until each component is back, and no longer than --for",
    )  # fmt: skip
    parser.add_argument("--reason", metavar="TEXT", help="why, for others to read")
    parser.add_argument("--by", metavar="TEXT", help="who sets it (you, and this host)")
    parser.add_argument(
        "--under", metavar="XNAME", action="append",
        help="to start, what is tracked in a cabinet, chassis or slot; may be repeated",
    )  # fmt: skip


def _add_params(parser: ArgumentParser) -> None:
    parser.add_argument(
        "parameters", metavar="NAME[=VALUE]", nargs="*", help="show it, or change it; all if none"
    )


def _add_thresholds(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action",
        metavar="show|set|clear",
        nargs="?",
        choices=("show", "set", "clear"),
        default="show",
        help="show them (default), replace all by those in FILE, or remove all",
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="the rows in JSON; - for standard input"
    )


def _add_reconcile(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="only say what is wrong; tell HSM nothing"
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=180.0, help="how long to wait (180)"
    )


def _add_absent(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="exit with status 1 if any node is absent"
    )


def _add_guard(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action", metavar="release", nargs="?", choices=("release",), help="release what follows"
    )
    parser.add_argument(
        "domains", metavar="DOMAIN", nargs="*", help="failure domains, by their xnames or names"
    )
    parser.add_argument("--all", action="store_true", help="release all that is disrupted")
    parser.add_argument(
        "--check", action="store_true", help="exit with status 1 if anything is disrupted"
    )


def _add_completion(parser: ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh"), help="bash or zsh")


def _add_nothing(parser: ArgumentParser) -> None:
    pass


COMMANDS = (
    Command(
        "status", "", "look", "how many are in which state, and which groups are silent",
        "Print how many components are healthy, warned and dead, and the largest groups\n"
        "(system, cabinet, chassis, slot) that are wholly or mostly silent.",
        ("hbtctl status", "hbtctl status --check || echo somebody is silent"), _add_status,
    ),
    Command(
        "list", " [NODESET...]", "look", "components, one a line",
        f"Print components, one a line.\n\n{_SUFFIX_TEXT}\n\n"
        "The state maintenance is that of a component that is silent, and in maintenance,\n"
        "and so not warned about; held is that of one whose death the guard lets wait.\n\n"
        "Columns are xname, type, hostname, nid, state, flapping, since, last, age, status,\n"
        "timestamp, source, hsm and maintenance: since is when the state began, last the\n"
        "time of the last heartbeat, and age how long ago that was; flapping are components\n"
        "that change again and again. -o nodeset prints the names alone, folded. The exit\n"
        "status is 1 if some components that are named are not tracked.",
        ("hbtctl list --state dead", "hbtctl list --under x1000c7 -o wide",
         "hbtctl list --flapping --columns xname,state,since",
         "hbtctl list 'nid[000001-000064]' --columns nid,state",
         "clush -w \"$(hbtctl list --state ok -o nodeset)\" uptime"), _add_list,
    ),
    Command(
        "tree", " [NODESET...]", "look", "the machine by cabinet, chassis and slot",
        "Print how many components are silent in which cabinet, chassis and slot. A place\n"
        "whose components are all in one state is one line.",
        ("hbtctl tree --down", "hbtctl tree --under x1000"), _add_tree,
    ),
    Command(
        "why", " NODESET...", "look", "what is known of a component, and why it is in its state",
        "Print all that is known of a component: its state and the reason, when and how it\n"
        "beats, what HSM was told, and its latest transitions.",
        ("hbtctl why x1000c7s0b0n0", "hbtctl why nid000449"), _add_why,
    ),
    Command(
        "absent", "", "look", "nodes that should be up, and were never heard",
        "Print the nodes that HSM's table has as enabled, and On or Ready, and that were\n"
        "not heard since that was first seen, for as long as hbtd's option boot_time says.\n"
        "-o nodeset prints the names alone, folded; a thousand are named at most. Only the\n"
        "replica that leads knows them, and only once it has read HSM's table.",
        ("hbtctl absent", "hbtctl absent --check || echo some nodes never came up"), _add_absent,
    ),
    Command(
        "watch", " [NODESET...]", "follow", "what status prints, live",
        "Show what `hbtctl status` prints, and the latest transitions, until Ctrl-C. If\n"
        "components are named, these transitions are theirs.",
        ("hbtctl watch", "hbtctl watch --under x1000c7"), _add_watch,
    ),
    Command(
        "events", " [NODESET...]", "follow", "the latest transitions, and those to come",
        "Print the latest transitions and, with --follow, further ones as they happen.\n"
        "After a broken connection it goes on where it was.",
        ("hbtctl events -n 50", "hbtctl events --follow -o json | jq .XName"), _add_events,
    ),
    Command(
        "history", " [NODESET...]", "follow", "what happened when, or the states at a moment",
        "Print transitions, oldest first, or with --at the state of each component at a\n"
        "moment. A TIME is 2026-11-26, 2026-11-26T18:56:00Z, 18:56 (the latest), or how\n"
        "long ago: -15m, -2h, -7d. --at also has those that were forgotten since.",
        ("hbtctl history x1000c7s0b0n0 --since -2h",
         "hbtctl history --at 2026-11-26T18:56:00Z --state dead",
         "hbtctl history --at -2m --state dead -o nodeset",
         "hbtctl history --since -1h --limit 0 | awk '$4 == \"dead\"'   # came back"),
        _add_history,
    ),
    Command(
        "whatif", "", "follow", "how many alarms there would have been with other limits",
        "Print how many warnings and deaths there would have been with another Warntime\n"
        "or Errtime, of whom, and how many of them came back: see it before you change the\n"
        "limits with `hbtctl params`. hbtd keeps each silence of more than twice the mean\n"
        "period of its component; with limits for which that is not enough, standard error\n"
        "says so. A TIME is as for history. With etcd, it is what the replica that answers\n"
        "has heard since its start.",
        ("hbtctl whatif --warntime 8 --errtime 20",
         "hbtctl whatif --errtime 20 --since -7d -o json | jq .Deaths.XNames"),
        _add_whatif,
    ),
    Command(
        "wait", " [NODESET...]", "act", "wait until components are in a state",
        "Wait until all components that are named, or all within a cabinet, chassis or\n"
        "slot, are in a state; the exit status is 1 if they are not within --timeout, and\n"
        "standard error says which. Where nothing is tracked, nothing is ok. While hbtd\n"
        "can't be reached it is asked again; if that lasts to the end, the status is 3.",
        ("hbtctl wait 'x1000c0s[0-7]b0n[0-3]' --state ok --timeout 600",
         "hbtctl wait --under x1000c7 --state ok",
         "hbtctl wait nid000083 --state dead --timeout 0 -q && echo it is dead"), _add_wait,
    ),
    Command(
        "send", " XNAME", "act", "send heartbeats as a node does",
        "Send heartbeats in the name of a component, until Ctrl-C.",
        ("hbtctl send x1000c0s0b0n0 --nid 1", "hbtctl send x1000c0s0b0n0 --count 1"), _add_send,
    ),
    Command(
        "forget", " [NODESET...]", "act", "have components forgotten",
        "Have components forgotten, without a transition: for those that were taken out\n"
        "of the machine. One that sends a heartbeat starts anew.",
        ("hbtctl forget 'x1000c7s0b0n[0-1]'", "hbtctl forget --under x1000c7",
         "hbtctl list --state dead -o nodeset | hbtctl forget --yes -"),
        _add_forget,
    ),
    Command(
        "maintenance", " [ACTION] [NODESET|ID...]", "act",
        "set, list and end times in which silence is no alarm",
        "In maintenance, the silence of components is no alarm: HSM is told neither of\n"
        "warnings nor of deaths. Without an action, or with list, print all maintenances, or\n"
        "those with an ID in full. start sets one; it needs an end, --for or --until. With\n"
        "--until back it ends for each component with its first heartbeat after a silence of\n"
        "Warntime, so that it can be set before a reboot. change moves the end of one, and\n"
        "end ends it now, for all in it; who is in another one, too, is in that until its\n"
        "end. At the end silence counts from then on. A TIME of --until is\n"
        "2026-11-26T18:56:00Z or 18:56 (the next). The exit status of start is 1 if some\n"
        "names are not known.",
        ("hbtctl maintenance",
         "hbtctl maintenance start 'x1000c7s[0-7]b0n[0-1]' --for 2h --reason 'new firmware'",
         "hbtctl maintenance start --under x1000c7 --until back --for 1h --reason reboot",
         "hbtctl maintenance change 4g4r75 --for 30m", "hbtctl maintenance end 4g4r75"),
        _add_maintenance,
    ),
    Command(
        "params", " [NAME[=VALUE]...]", "act", "show parameters, or change them",
        "Print parameters; change those that are given a value, until hbtd stops.",
        ("hbtctl params", "hbtctl params warntime=20 errtime=60"), _add_params,
    ),
    Command(
        "thresholds", " [show|set FILE|clear]", "act", "other times for some components",
        "Show the rows by which some components have a Warntime or an Errtime of their own,\n"
        "replace them all, or remove them. The first row that matches a component decides;\n"
        "what it leaves out is the parameter. A row matches a nodeset of xnames, a group of\n"
        "ClusterShell on this host, or a type of HSM's, such as NodeBMC. The file is what\n"
        "-o json shows:\n\n"
        '[{"Match":"x3000c0s[1-8]b0n0","Warntime":60,"Errtime":180},\n'
        ' {"Match":"NodeBMC","Errtime":120}]\n\n'
        "All replicas have the same rows, and keep them. Agents of nodes learn of a shorter\n"
        "Warntime within five minutes: first lower it only so far that they are in time.",
        ("hbtctl thresholds", "hbtctl thresholds -o json > rows.json",
         "hbtctl thresholds set rows.json", "hbtctl thresholds clear"), _add_thresholds,
    ),
    Command(
        "reconcile", "", "act", "compare HSM's table, and have put right what is wrong there",
        "Have HSM's table read twice, ten seconds apart, and compared with what hbtd knows;\n"
        "HSM is told again of what it has wrong. hbtd does that by itself every five minutes\n"
        "(its option sm_sync); but more than 100 deaths at once are told only after this\n"
        "command. The exit status is 1 if something stays wrong, or is in a dry run.",
        ("hbtctl reconcile --dry-run", "hbtctl reconcile"), _add_reconcile,
    ),
    Command(
        "guard", " [release DOMAIN...]", "act", "what is disrupted, and whose deaths wait",
        "Print which failure domains (slots, chassis, cabinets, groups of one's own, the\n"
        "system: s0) are disrupted: much of them fell silent together. With the option\n"
        "guard=hold of hbtd their deaths wait, until a time that is printed; release lets\n"
        "them wait no more. The exit status is 1 if what is to be released is not disrupted.",
        ("hbtctl guard", "hbtctl guard release x1000c7", "hbtctl guard release --all"),
        _add_guard,
    ),
    Command(
        "health", "", "service", "how hbtd and its neighbours are",
        "Print whether hbtd is ready, what it says of its store, Kafka and HSM, and what\n"
        "hinders it in hearing and judging, or did so in the last ten minutes. The exit\n"
        "status is 1 if it is not ready.", ("hbtctl health",), _add_nothing,
    ),
    Command(
        "internals", "", "service", "what is going on inside hbtd",
        "Print what is going on inside hbtd, for operators: uptime, options, replicas, what\n"
        "has hindered it, queues, connections, self-checks.",
        ("hbtctl internals", "hbtctl internals -o json"), _add_nothing,
    ),
    Command(
        "completion", " bash|zsh", "service", "completion for bash or zsh",
        "Print a script that completes commands and options in a shell.",
        ("source <(hbtctl completion bash)", "hbtctl completion zsh > ~/.zfunc/_hbtctl"),
        _add_completion,
    ),
)  # fmt: skip
"""All commands of hbtctl, in the order in which the help lists them."""
