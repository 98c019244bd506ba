"""The kinds of simulated worlds, by the names that they have in tables and on pages."""

from typing import NamedTuple

from tests.simulation.guarded import GuardedReplicas, GuardedWorld
from tests.simulation.handover import HandoverWorld
from tests.simulation.mixed import MixedWorld
from tests.simulation.replicated import ReplicatedWorld
from tests.simulation.single import SingleWorld
from tests.simulation.table import TableWorld


class Kind(NamedTuple):
    """A kind of world."""

    world: type[SingleWorld | ReplicatedWorld | MixedWorld]
    description: str
    option: str
    """The option of `python -m tests.simulation` that has such worlds run; empty for the usual."""
    kafka: bool
    """Whether such worlds may have a Kafka."""
    share: float
    """Their share of the processors' time in a night run."""

    @property
    def arguments(self) -> list[str]:
        """The arguments of `python -m tests.simulation` that have such worlds run."""
        return [f"--{self.option}"] if self.option else []


KINDS = {
    "guarded": Kind(
        GuardedWorld,
        "small worlds whose failure domains fall silent",
        "guarded",
        kafka=False,
        share=0.1,
    ),
    "guarded-replicas": Kind(
        GuardedReplicas,
        "the same while replicas lead in turn",
        "guarded-replicas",
        kafka=False,
        share=0.1,
    ),
    "mixed": Kind(
        MixedWorld,
        "worlds of replicas beside an original hbtd",
        "original",
        kafka=False,
        share=0.1,
    ),
    "handover": Kind(
        HandoverWorld,
        "small worlds whose replicas lead in turn",
        "handover",
        kafka=False,
        share=0.1,
    ),
    "table": Kind(
        TableWorld,
        "small worlds in which others write HSM's table",
        "table",
        kafka=False,
        share=0.15,
    ),
    "replicas": Kind(
        ReplicatedWorld,
        "worlds with three replicas and an etcd",
        "replicas",
        kafka=True,
        share=0.225,
    ),
    "single": Kind(SingleWorld, "worlds with one hbtd", "", kafka=True, share=0.225),
}
"""All kinds; of two whose options are given, the first one is run."""
