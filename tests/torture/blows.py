"""The kinds of blow: what is done to a running service, at a moment drawn from the seed.

Each kind says how many kills it counts for, and how often it is drawn. A plan has every kind at least once.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

from victim import Victim, ended, pause, send

MOMENT_SECONDS = 1.5  # a blow comes at most so long after the service was ready
STARTING_SECONDS = 1.5  # and where it is meant for a start, so long after that
HOURS_MS = (-3_600_000, 0, 3_600_000)  # ahead of the real clock
RECOVERIES, LANES = 4, 60


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    weight: int
    kills: int
    strike: Callable[[Victim], None]


def service(victim: Victim) -> None:
    """Kill -9 of the service; its delivery process ends by itself."""
    _some_time_later(victim)
    victim.kill_service()


def delivery(victim: Victim) -> None:
    """Kill -9 of the delivery process alone: of the next one, where the last is gone."""
    victim.up()
    victim.wait_for(lambda: bool(victim.delivery_pids), "a delivery process to kill")
    _some_time_later(victim)
    victim.kill_delivery()


def both(victim: Victim) -> None:
    """Kill -9 of both at once."""
    _some_time_later(victim)
    victim.kill_delivery()
    victim.kill_service()


def starting(victim: Victim) -> None:
    """Kill -9 of the service, or of both, while they start; now and then again before any start succeeds."""
    victim.start()
    pause(STARTING_SECONDS * victim.dice.random())
    if victim.dice.random() < 0.5:
        victim.kill_delivery()
    victim.kill_service()


def recovery(victim: Victim) -> None:
    """Kill -9 in the middle of a long recovery, and of the recovery of that one, again and again."""
    victim.up()
    victim.kill_service()
    victim.leave_lanes(LANES)
    for _ in range(RECOVERIES):
        victim.start()
        _recovered_somewhat(victim)
        victim.kill_service()


def _recovered_somewhat(victim: Victim) -> None:
    """Once it is through, the service has open files of its own again."""
    found = victim.open_files()
    left = victim.dice.randint(0, len(found))
    victim.wait_for(lambda: len(found & victim.open_files()) <= left, "the recovery to come that far")


def pause_service(victim: Victim) -> None:
    """The service is stopped for a while, and goes on."""
    _some_time_later(victim)
    send(victim.pid, signal.SIGSTOP)
    pause(victim.stop_seconds)
    send(victim.pid, signal.SIGCONT)
    victim.wait_for_acknowledgements()


def pause_delivery(victim: Victim) -> None:
    """The delivery process is stopped for a while: records are taken meanwhile, and delivered when it goes on."""
    _some_time_later(victim)
    stopped = victim.delivery_pid()
    send(stopped, signal.SIGSTOP)
    victim.wait_for_acknowledgements()
    pause(victim.stop_seconds)
    send(stopped, signal.SIGCONT)
    victim.wait_for_delivery()


def clock(victim: Victim) -> None:
    """The wall clock jumps an hour ahead or back: nothing waits for it, not even a stream that only its interval
    moves on. Then a kill, and a start in that hour.
    """
    _some_time_later(victim)
    victim.post_quiet()
    victim.set_clock(victim.dice.choice([ahead for ahead in HOURS_MS if ahead != victim.ahead_ms]))
    victim.wait_for_acknowledgements()
    victim.wait_for_delivery()
    victim.wait_for_delivery("quiet")
    victim.kill_service()


def orphan(victim: Victim) -> None:
    """The service is killed while its delivery process is stopped: the next one takes records all the same, and
    delivers when the orphan has been let go on, and so has ended.
    """
    _some_time_later(victim)
    left_alone = victim.delivery_pid()
    send(left_alone, signal.SIGSTOP)
    victim.kill_service()
    victim.up()
    victim.wait_for_acknowledgements()
    assert not ended(left_alone)
    assert not victim.place("app"), "one delivery half at a time"
    send(left_alone, signal.SIGCONT)
    victim.wait_for(lambda: ended(left_alone), "the orphan to end")
    victim.wait_for_delivery()


def poison(victim: Victim) -> None:
    """A segment that ends the delivery process each time is held; everything else is delivered."""
    _some_time_later(victim)
    held = victim.held("poison")
    victim.post_deadly()
    victim.wait_for(lambda: victim.held("poison") > held, "the deadly segment to be held")
    victim.wait_for_delivery()


def _some_time_later(victim: Victim) -> None:
    victim.up()
    pause(MOMENT_SECONDS * victim.dice.random())


KINDS = (
    Kind("service", 24, 1, service),
    Kind("delivery", 24, 1, delivery),
    Kind("both", 16, 1, both),
    Kind("start-up", 16, 1, starting),
    Kind("recovery", 4, RECOVERIES, recovery),
    Kind("service stopped", 1, 1, pause_service),
    Kind("delivery stopped", 1, 1, pause_delivery),
    Kind("clock jump", 4, 1, clock),
    Kind("orphan", 3, 1, orphan),
    Kind("poison", 2, 3, poison),
)


def plan(kills: int, dice: random.Random) -> list[Kind]:
    """Blows that count for that many kills in all, of every kind if there is room."""
    chosen: list[Kind] = []
    first = [*KINDS]
    while left := kills - sum(kind.kills for kind in chosen):
        fitting = [kind for kind in (first or KINDS) if kind.kills <= left]
        if not fitting:
            first = []
            continue
        (kind,) = dice.choices(fitting, [kind.weight for kind in fitting])
        first = [other for other in first if other is not kind]
        chosen.append(kind)
    return dice.sample(chosen, len(chosen))
