"""Kafka in a world: hbtd's access to it, what goes wrong with it, and what the oracle is told."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from kafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidRecordError,
    KafkaError,
    KafkaStorageError,
    MessageSizeTooLargeError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    PolicyViolationError,
    TopicAuthorizationFailedError,
    UnknownError,
    UnknownProducerIdError,
)

from hbtd.telemetry.background import Background
from tests.simulation.clock import WorldClock
from tests.simulation.kafka import KAFKA, Broker, Message
from tests.simulation.network import Network
from tests.simulation.process import Process
from tests.simulation.producer import SimulatedProducer
from tests.simulation.telemetry_oracle import TelemetryOracle
from tests.simulation.threads import SimulatedCondition, SimulatedThread
from tests.simulation.truth import Truth

ADDRESS = f"{KAFKA}:9092:hbtd"

_REFUSAL = 40.0
"""The most seconds for which all or some messages are refused; hbtd bears with a minute of it."""

_BETWEEN_REFUSALS = 75.0
"""Seconds between two such times, so that hbtd does not take them for one."""

_LAST_REFUSED = 0.3
"""The share of worlds whose last messages Kafka refuses for ever: nothing follows behind them."""

_FORGETS = 0.5
"""How often Kafka has forgotten producers when it is back: then what waits is sent to it."""

_LOOK = 0.25
"""Seconds between two looks at who may send messages."""

_DELAYS = (0.5, 3.0, 15.0)
"""The most seconds by which an answer is late, there and back."""

_LONGEST_FLIGHT = _DELAYS[-1] / 2 + 0.1
"""More seconds than any message is on its way."""

_MAY_PASS = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError, UnknownError)
_IN_TROUBLE = (NotEnoughReplicasError, NotEnoughReplicasAfterAppendError, KafkaStorageError)
_FOR_GOOD = (MessageSizeTooLargeError, PolicyViolationError, InvalidRecordError)


class Telemetry:
    """A Kafka, its troubles, and the producers of all processes.

    Whatever chance decides here comes from a source of its own: with another Kafka the rest of a
    world is the same, as far as it does not depend on Kafka.
    """

    def __init__(
        self,
        seed: int,
        clock: WorldClock,
        network: Network,
        truth: Truth,
        oracle: TelemetryOracle,
        check: Callable[[Callable[[], None]], None],
        leads: Callable[[str], bool] = lambda host: True,
    ) -> None:
        """Make a Kafka that is well; `leads` says whether the replica on a host may publish."""
        self.random = Random(f"kafka {seed}")
        self.broker = Broker(self.random, self.random.choice((1, 3)))
        self.broker.picks = Random(f"picks {seed}")
        self.broker.on_append = self._appended
        self.broker.on_refuse = self._refused
        self._most = self.random.choice((1, 3, 60))
        self._clock = clock
        self._network = network
        self._truth = truth
        self._oracle = oracle
        self._check = check
        self._leads = leads
        self._producers: list[_Producer] = []
        self._well_from = 0.0
        self._busy = False
        self._last = Random(f"last messages {seed}")
        self._last_refused: type[KafkaError] | None = None
        self._look()

    # What hbtd gets

    def connect(self, process: Process, host: str, address: Any) -> SimulatedProducer:
        """Connect a process to Kafka."""
        producer = _Producer(self._broker_of(address), self._network, process, host, self._most)
        producer.telemetry = self
        producer.entitled_at = self._clock.now
        self._producers.append(producer)
        self._check(partial(self._oracle.connects, host, id(process), self._clock.now))
        self._truth.note("kafka", f"{host} has the producer {producer.id}", story=False)
        return producer

    def background(self, process: Process) -> Background:
        """Return what the threads of a process are made of."""
        return Background(
            partial(SimulatedThread, process, self.random),
            partial(SimulatedCondition, process),
            process.now,
        )

    def _broker_of(self, address: Any) -> Broker:
        assert f"{address.host}:{address.port}:{address.topic}" == ADDRESS
        return self.broker

    # What the oracle is told

    def sends(self, producer: SimulatedProducer) -> None:
        """Note that hbtd gives a message to a producer."""
        self._check(partial(self._oracle.sends, producer.host, self._leads(producer.host)))

    def _entitled(self, producer: SimulatedProducer) -> bool:
        return not producer.abandoned and self._leads(producer.host)

    def _look(self) -> None:
        """Note which producers may send messages now, and which can't be given up as yet."""
        for producer in self._producers:
            if producer.suspended or self._entitled(producer):
                producer.entitled_at = self._clock.now
        self._clock.after(_LOOK, self._look)

    def _appended(self, number: int, message: Message) -> None:
        producer = next(each for each in self._producers if number in each.ids)
        late = not self._entitled(producer)
        if late:
            since = self._clock.now - producer.entitled_at - _LOOK - _LONGEST_FLIGHT
            self._check(partial(self._oracle.is_late, producer.host, since))
        text = message.value.decode()
        self._truth.note("topic", f"{number}{' late' if late else ''} {text}", story=False)
        self._check(
            partial(self._oracle.appended, message.key.decode(), text, late, self._clock.now)
        )

    def _refused(self, message: Message) -> None:
        text = message.value.decode()
        self._truth.note("kafka", f"refuses for ever {text}")
        self._oracle.refused(message.key.decode(), text)
        self.broker.poison = self._last_refused

    # What goes wrong

    def schedule(self, begin: float, end: float, hosts: tuple[str, ...]) -> None:
        """Have Kafka get into trouble now and then between two times."""
        kinds: list[tuple[float, Callable[[], None]]] = [
            (3, self._away),
            (2, lambda: self._hang(hosts)),
            (3, self._slow),
            (3, self._lose_answers),
            (3, self._refuse),
            (3, self._struggle),
            (1, self._forget),
            (3, self._poison),
            (3, self._change_leader),
            (1, self._lose_topic),
        ]
        if self._last.random() < _LAST_REFUSED:
            # Behind the end of what is refused until then.
            error = self._last.choice(_FOR_GOOD)
            self._clock.at(end + 0.1, partial(self._refuse_last, error))
        weights, calls = zip(*kinds, strict=True)
        time = begin
        while (time := time + self.random.expovariate(1 / 20)) < end - 20:
            (call,) = self.random.choices(calls, weights)
            self._clock.at(time, partial(self._begin, call, end))

    def _begin(self, call: Callable[[], None], end: float) -> None:
        self._end = end
        if not self._busy:
            call()

    def _trouble(self, what: str, low: float, high: float, mend: Callable[[], object]) -> None:
        self._truth.note("kafka", what)
        self._busy = True

        def well() -> None:
            self._truth.note("kafka", "is well again")
            self._busy = False
            mend()

        seconds = self.random.uniform(low, high)
        self._clock.at(min(self._clock.now + seconds, self._end), well)

    def _away(self) -> None:
        self.broker.down()

        def up() -> None:
            self.broker.up = True
            if self._last.random() < _FORGETS:
                self._forget()

        self._trouble("is away", 0.5, 60, up)

    def _hang(self, hosts: tuple[str, ...]) -> None:
        host = self.random.choice(hosts)
        pair = self.random.choice(((host, KAFKA), (KAFKA, host)))
        self._trouble("gets no messages, or sends none", 0.5, 50, self._network.cut(*pair))

    def _slow(self) -> None:
        self.broker.delay = self.random.choice(_DELAYS)
        self._trouble(f"answers up to {self.broker.delay:g} s late", 1, 40, self._usual)

    def _lose_answers(self) -> None:
        self.broker.resets = self.random.uniform(0.2, 0.9)
        self._trouble("resets connections instead of answering", 1, 30, self._usual)

    def _refuse(self) -> None:
        if self._clock.now < self._well_from:
            return
        self.broker.failing = self.random.choice(_MAY_PASS), self.random.choice((0.5, 1.0))
        self._well_from = self._clock.now + _REFUSAL + _BETWEEN_REFUSALS
        error, share = self.broker.failing
        self._trouble(f"refuses {share:.0%} with {error.__name__}", 1, _REFUSAL, self._usual)

    def _struggle(self) -> None:
        error = self.random.choice(_IN_TROUBLE)
        self.broker.failing = error, self.random.uniform(0.3, 1.0)
        self.broker.appends_failing = error is NotEnoughReplicasAfterAppendError
        self._trouble(f"answers {error.__name__}", 0.5, 40, self._usual)

    def _forget(self) -> None:
        self.broker.failing = UnknownProducerIdError, 0.5
        self._trouble("forgets producers", 0.5, 20, self._usual)

    def _poison(self) -> None:
        """Refuse the next message for ever, whatever else goes wrong meanwhile."""
        self.broker.poison = self.random.choice(_FOR_GOOD)

        def mend() -> None:
            self.broker.poison = None

        self._clock.at(min(self._clock.now + self.random.uniform(10, 60), self._end), mend)

    def _refuse_last(self, error: type[KafkaError]) -> None:
        """Refuse for ever each message that is new, until the end of the world."""
        self._truth.note("kafka", f"refuses what is new with {error.__name__}")
        self.broker.poison, self.broker.poisons_all = error, True
        self._last_refused = error

    def _change_leader(self) -> None:
        partition = self.random.randrange(len(self.broker.partitions))
        self.broker.leaderless.add(partition)
        mend = partial(self.broker.leaderless.discard, partition)
        self._trouble(f"has no leader for partition {partition}", 0.05, 10, mend)

    def _lose_topic(self) -> None:
        self.broker.has_topic = False

        def mend() -> None:
            self.broker.has_topic = True

        self._trouble("has no topic", 0.5, 40, mend)

    def _usual(self) -> None:
        self.broker.delay = self.broker.resets = 0.0
        self.broker.failing, self.broker.appends_failing = None, False


class _Producer(SimulatedProducer):
    telemetry: Telemetry
    entitled_at: float
    """When it was last seen to be one that may send, or whose process was suspended."""

    def send(self, key: bytes, value: bytes) -> Any:
        self.telemetry.sends(self)
        return super().send(key, value)
