"""The brokers: logs with gaps, a consumer group with generations, and whatever groups commit."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from zlib import crc32

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalGenerationError, UnknownMemberIdError

from services.bus.membership import Gone
from services.bus.partition import Commit
from services.bus.progress import SPAN, decode_metadata
from services.events import PaymentReceived
from tests.simulation.world import World

LIVE, REPLAY = PaymentReceived.TOPIC, f"{PaymentReceived.TOPIC}.replay"
METADATA_LIMIT = 4096
SESSION_S, REBALANCE_S = 3.0, 5.0


@dataclass(eq=False)
class Log:
    """One partition of a topic."""

    partition: TopicPartition
    records: list[ConsumerRecord] = field(default_factory=list)
    begin: int = 0
    end: int = 0

    def read(self, offset: int, most: int) -> list[ConsumerRecord]:
        """Raises Gone for a position outside the log."""
        if not self.begin <= offset <= self.end:
            raise Gone([self.partition])
        found: list[ConsumerRecord] = []
        for record in self.records:
            if record.offset >= offset:
                found.append(record)
                if len(found) == most:
                    break
        return found


@dataclass(eq=False)
class Member:
    """What the coordinator keeps of one member."""

    name: str
    expires_at: float
    joining: "asyncio.Future[tuple[int, str]] | None" = None


class Brokers:
    """All that the brokers keep; time passes in it through the world's loop."""

    def __init__(self, world: World, partitions: int) -> None:
        self._world = world
        self.partitions = partitions
        self.logs = {
            TopicPartition(topic, number): Log(TopicPartition(topic, number))
            for topic in (LIVE, REPLAY)
            for number in range(partitions)
        }
        self.offsets: dict[tuple[str, TopicPartition], Commit] = {}
        self.away = False
        self.generation = 0
        self.members: dict[str, Member] = {}
        self.state = "stable"
        self._formed: list[str] = []
        self._round = 0
        self._names = 0
        self.waiting: list[asyncio.Future[None]] = []
        self.committed: list[Callable[[TopicPartition], None]] = []
        self.overwritten: list[Callable[[], None]] = []

    # -- logs ------------------------------------------------------------------------------------------

    def append(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: tuple[tuple[str, bytes], ...] = (),
        number: int | None = None,
    ) -> ConsumerRecord:
        number = crc32(key) % self.partitions if number is None else number
        log = self.logs[TopicPartition(topic, number)]
        if self._world.random.random() < 0.15:  # a transaction marker, or what compaction left
            log.end += self._world.random.randint(1, 4)
        record = ConsumerRecord(
            topic, number, log.end, int(self._world.now().timestamp() * 1000), 1,
            key, value, None, len(key), len(value), headers,
        )  # fmt: skip
        log.records.append(record)
        log.end += 1
        for waiting in self.waiting:
            if not waiting.done():
                waiting.set_result(None)
        self.waiting.clear()
        return record

    # -- the group -------------------------------------------------------------------------------------

    def join(self, name: str) -> "asyncio.Future[tuple[int, str]]":
        """Resolves with the new generation and the member's name once the group has formed."""
        if name and name not in self.members:
            raise UnknownMemberIdError
        if not name:
            self._names += 1
            name = f"m{self._names:03}"
            self.members[name] = Member(name, 0)
            self._touch(self.members[name])
        member = self.members[name]
        formed = member.joining = self._world.loop.create_future()
        self.rebalance()
        self._complete_if_all_are_there()
        return formed

    def rebalance(self) -> None:
        """Every member is asked to join anew; who does not in time is out."""
        if self.state != "joining":
            self.state = "joining"
            self._round += 1
            self._world.loop.later(REBALANCE_S, self._close_round, self._round)

    def _close_round(self, number: int) -> None:
        if self.state == "joining" and number == self._round:
            for name in [name for name, member in self.members.items() if member.joining is None]:
                del self.members[name]
            self._complete_if_all_are_there()

    def _complete_if_all_are_there(self) -> None:
        joining = [member.joining for member in self.members.values()]
        if self.state != "joining" or not joining or None in joining:
            return
        self.generation += 1
        self.state = "syncing"
        self._formed = sorted(self.members)
        self._world.note(f"generation {self.generation}: {sorted(self.members)}")
        for member in self.members.values():
            self._touch(member)
            if member.joining is not None:
                member.joining.set_result((self.generation, member.name))
            member.joining = None

    def sync(self, generation: int, name: str) -> list[TopicPartition]:
        """What the member has in this generation: the same numbers of live and `.replay`, as Range does."""
        self._known(generation, name)
        self.state = "stable" if self.state == "syncing" else self.state
        names = self._formed
        place, each, more = names.index(name), *divmod(self.partitions, len(names))
        first = place * each + min(place, more)
        numbers = range(first, first + each + (place < more))
        return [TopicPartition(topic, number) for topic in (LIVE, REPLAY) for number in numbers]

    def heartbeat(self, generation: int, name: str) -> bool:
        """False while the group rebalances."""
        self._known(generation, name)
        return self.state != "joining"

    def leave(self, name: str) -> None:
        if self.members.pop(name, None) is not None:
            self.rebalance()
            self._complete_if_all_are_there()

    def _known(self, generation: int, name: str) -> None:
        if name not in self.members:
            raise UnknownMemberIdError
        if generation != self.generation:
            raise IllegalGenerationError
        self._touch(self.members[name])

    def _touch(self, member: Member) -> None:
        alone = member.expires_at == 0
        member.expires_at = self._world.loop.time() + SESSION_S
        if alone:
            self._world.loop.later(SESSION_S, self._expire, member)

    def _expire(self, member: Member) -> None:
        if self.members.get(member.name) is not member or self._world.over:
            return
        left = member.expires_at - self._world.loop.time()
        if member.joining is not None or self.away or left > 0:
            self._world.loop.later(max(left, 0.5), self._expire, member)
            return
        self._world.note(f"{member.name} is silent and out of the group")
        self.leave(member.name)

    def come_back(self) -> None:
        """After an absence; a coordinator gives everybody a whole session anew."""
        self.away = False
        for member in self.members.values():
            self._touch(member)

    # -- commits ---------------------------------------------------------------------------------------

    def commit(
        self, generation: int, name: str, commits: Mapping[TopicPartition, Commit]
    ) -> Collection[TopicPartition]:
        """Refuses every one of an older generation, and while a new one is being told its assignment."""
        if name not in self.members or generation != self.generation or self.state == "syncing":
            self._world.note(f"refused the commits of {name}, generation {generation}")
            return []
        return [partition for partition, commit in commits.items() if self.write("", partition, commit)]

    def write(self, scope: str, partition: TopicPartition, commit: Commit) -> bool:
        if len(commit[1]) > METADATA_LIMIT:
            self._world.broken(f"metadata of {len(commit[1])} bytes for {scope or 'main'}")
            return False
        if not scope and decode_metadata(commit[1], commit[0], commit[0] + SPAN).generation not in (
            0,
            self.generation,
        ):
            self._world.broken(f"a commit of an earlier assignment of {short(partition)} was taken")
        self.offsets[scope, partition] = commit
        self._world.note(f"committed {scope or 'main'} {short(partition)} {commit[0]} {commit[1]}")
        for told in self.committed:
            told(partition)
        return True

    def commits(self, partitions: Collection[TopicPartition], scope: str) -> dict[TopicPartition, Commit]:
        return {partition: self.offsets.get((scope, partition), (-1, "")) for partition in partitions}

    def scopes(self) -> list[str]:
        return list(dict.fromkeys(scope for scope, _ in self.offsets if scope))


def short(partition: TopicPartition) -> str:
    return f"{'r' if partition.topic == REPLAY else 'l'}{partition.partition}"
