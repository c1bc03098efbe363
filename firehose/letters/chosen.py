"""The letters that a person means: those of some objects, of which a condition is true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from firehose.letters.letter import Damage, Letter
from firehose.letters.places import Place
from firehose.letters.table import Condition, batches

DAMAGE_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Object:
    """An object of letters. `stream` is empty where its name does not tell it."""

    place: Place
    name: str
    stream: str

    @property
    def address(self) -> str:
        return self.place.shelf.address(self.name)


def objects(places: Iterable[Place]) -> list[Object]:
    """All that there are now: what is written while they are read is left for another time. Raises `Unreadable`."""
    return [
        Object(place, item.name, told[0])
        for place in places
        for item in place.items()
        if (told := place.told(item.name)) is not None
    ]


@dataclass(slots=True)
class Chosen:
    """Letters, and how far they were read. What is damaged is passed over and counted."""

    objects: list[Object]
    condition: Condition | None
    read: int = 0  # objects, to their end
    damaged: int = 0
    damage: list[Damage] = field(default_factory=list)  # the first few

    def __iter__(self) -> Iterator[tuple[Object, Letter]]:
        """Object by object, in the order of the documents. Raises `Unreadable`, `BadSql`."""
        for one in self.objects:
            for few in batches(self._whole(one)):
                for letter in self.condition.chosen(few) if self.condition else few:
                    yield one, letter
            self.read += 1

    def _whole(self, one: Object) -> Iterator[Letter]:
        for found in one.place.letters(one.name):
            if isinstance(found, Damage):
                self.damaged += 1
                self.damage += [found] if len(self.damage) < DAMAGE_SHOWN else []
            else:
                yield found
