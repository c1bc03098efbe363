"""The ledger: what is appended is what is read, through folds, failures and damage, and syncs are shared."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from faulty_disk import Fault, FaultyDisk
from hypothesis import given
from hypothesis import strategies as st
from isal.isal_zlib import crc32

from firehose.buffer import ledger as module
from firehose.buffer.disk import LocalDisk
from firehose.buffer.ledger import Book, Ledger, read_book
from firehose.buffer.recovery import Recovered
from firehose.contracts import Writer
from firehose.model import NewerFormat, SegmentKey, Totals

PATH = "/ledger"
KEYS: list[SegmentKey] = [("app", "lane", 0), ("app", "lane", 5), ("web", "lane", 0)]


def entry(kind: str, key: SegmentKey = KEYS[0], destination: str = "far", **more: Any) -> dict[str, Any]:
    return {"t": kind, "s": key, "d": destination, **more}


def opened(disk: FaultyDisk, reports: list[str] | None = None, gone: set[SegmentKey] | None = None) -> Ledger:
    return Ledger(disk, PATH, (reports if reports is not None else []).append, lambda keys: set(keys) & (gone or set()))


def said(disk: FaultyDisk) -> Book:
    book, bad = read_book(disk, PATH)
    assert bad == []
    return book


class Queue:
    """A lock that two threads take, the second while the first has it; the first goes on when the second is done."""

    def __init__(self) -> None:
        self._lock, self._entered = threading.Lock(), 0
        self.second_waits, self._second_done = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        self._entered += 1
        if self._entered == 2:
            self.second_waits.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if threading.current_thread().name.endswith("_0"):
            self._second_done.wait(10)
        else:
            self._second_done.set()


def test_a_sync_that_failed_is_not_repeated_by_those_who_wait_for_it() -> None:
    """It may succeed, and keep nothing of what the first one lost: both are told that their entries are not durable."""

    class Disk(FaultyDisk):
        def reopen(self, path: str, size_bytes: int) -> Writer:
            writer = FaultyDisk.reopen(self, path, size_bytes)
            sync = writer.sync

            def waits() -> None:
                queue.second_waits.wait(10)
                sync()

            writer.sync = waits  # type: ignore[method-assign]
            return writer

    disk, queue = Disk(), Queue()
    ledger = opened(disk)
    ledger.append(entry("held", why="w"), sync=False)
    ledger._sync_lock = queue  # type: ignore[assignment]
    disk.faults.append(Fault("sync"))
    with ThreadPoolExecutor(2, "appends") as threads:
        calls = [threads.submit(ledger.append, entry("held", key, why="w")) for key in KEYS[1:]]
        assert [type(call.exception(20)) for call in calls] == [OSError, OSError]
    ledger._sync_lock = threading.Lock()
    ledger.append(entry("held", destination="near", why="w"))
    book, _ = read_book(disk.after_power_cut(), PATH)
    assert len(book.held) == 4


def test_what_is_written_during_a_sync_waits_for_the_next() -> None:
    """A sync that had begun before is no promise for it: it is durable when its own append returns."""

    class Disk(FaultyDisk):
        def reopen(self, path: str, size_bytes: int) -> Writer:
            writer = FaultyDisk.reopen(self, path, size_bytes)
            sync = writer.sync

            def lasts() -> None:
                sync()
                syncing.set()
                queue.second_waits.wait(10)

            writer.sync = lasts  # type: ignore[method-assign]
            return writer

    disk, queue, syncing = Disk(), Queue(), threading.Event()
    ledger = opened(disk)
    ledger.append(entry("held", why="w"), sync=False)
    ledger._sync_lock = queue  # type: ignore[assignment]
    with ThreadPoolExecutor(2, "appends") as threads:
        first = threads.submit(ledger.append, entry("held", KEYS[1], why="w"))
        assert syncing.wait(10)
        second = threads.submit(ledger.append, entry("held", KEYS[2], why="w"))
        assert [call.exception(20) for call in (first, second)] == [None, None]
    book, _ = read_book(disk.after_power_cut(), PATH)
    assert len(book.held) == 3


ENTRIES = st.lists(
    st.one_of(
        st.builds(
            lambda key, d, n: entry("delivered", key, d, n={"delivered": n, "split": 1}, o={"p": [n, str(n)]}),
            st.sampled_from(KEYS),
            st.sampled_from(["far", "near"]),
            st.integers(1, 9),
        ),
        st.builds(
            lambda kind, key, d: entry(kind, key, d, why="w", note="n", n=3),
            st.sampled_from(["held", "released", "memo", "trying", "resting", "deaths"]),
            st.sampled_from(KEYS),
            st.sampled_from(["far", "near"]),
        ),
    ),
    max_size=30,
)


@given(ENTRIES, st.sets(st.sampled_from(KEYS)), st.integers(0, 30))
def test_folding_says_the_same(entries: list[dict[str, Any]], gone: set[SegmentKey], fold_at: int) -> None:
    """Whenever it is folded, what the book says of files that are there, and all totals and origins, stay the same."""
    plain, folded = FaultyDisk(), FaultyDisk()
    one, other = opened(plain), opened(folded)
    for number, each in enumerate(entries):
        one.append(each)
        other.append(each)
        if number == fold_at:
            other.fold()
    other.fold()
    assert said(plain) == said(folded) == other.book
    forgetful = opened(folded, gone=gone)
    forgetful.fold()
    after = said(folded)
    assert (after.totals, after.origins) == (said(plain).totals, said(plain).origins)
    assert set(after.delivered) == set(said(plain).delivered) - gone


def test_delivered_twice_counts_once() -> None:
    """A commit that is repeated changes nothing, and ends what was held or noted of the segment there."""
    disk = FaultyDisk()
    ledger = opened(disk)
    ledger.append(entry("held", why="w"), entry("memo", note="id"), entry("deaths", n=2), entry("trying"))
    for _ in range(2):
        ledger.append(entry("delivered", n={"delivered": 5}))
    book = said(disk)
    assert book.totals == {("app", "far"): Totals(delivered=5)}
    assert (book.held, book.memos, book.deaths, book.trying) == ({}, {}, {}, set())


def test_notes_that_are_taken_back() -> None:
    """A note that is forgotten is gone, one of two that say the same, and from what a fold or a restart says, too."""
    disk = FaultyDisk()
    ledger = opened(disk)
    for note in ("a", "b", "a"):
        ledger.append(entry("memo", note=note))
    ledger.append(entry("memo", note="a", gone=True), entry("memo", note="never", gone=True))
    assert ledger.book.memos == said(disk).memos == {(KEYS[0], "far"): ["b", "a"]}
    ledger.fold()
    assert said(disk).memos == {(KEYS[0], "far"): ["b", "a"]}
    ledger.append(entry("memo", note="b", gone=True), entry("memo", note="a", gone=True))
    assert ledger.book.memos == said(disk).memos == {}


def test_late_deliveries_bring_no_old_origins() -> None:
    """Of two deliveries the one with the higher turn says where its source is, in whatever order they come."""
    disk = FaultyDisk()
    ledger = opened(disk)
    ledger.append(entry("delivered", KEYS[1], n={"delivered": 1}, o={"p": (2, "new")}))
    ledger.append(entry("delivered", KEYS[0], n={"delivered": 1}, o={"p": (1, "old")}))
    ledger.fold()
    assert said(disk).origins == {"app": {"p": (2, "new")}}


class Unread(dict[str, tuple[int, str]]):
    """Origins that nobody may go through."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all of them are read")

    items = keys = values = __iter__  # type: ignore[assignment]


def test_a_delivery_looks_at_no_other_origins() -> None:
    """A delivery, and a frame that a start finds, adds its own origins, however many a stream remembers beside them."""
    book, found = Book(), Recovered(origins=Unread(q=(7, "q")))
    book.origins["app"] = Unread(p=(1, "p"), q=(7, "q"))
    book.apply(entry("delivered", n={"delivered": 1}, o={"p": (2, "new"), "q": (6, "old")}))
    found.add_origins({"p": (2, "new"), "q": (6, "old")})
    for origins in (book.origins["app"], found.origins):
        assert (origins["p"], origins["q"]) == ((2, "new"), (7, "q"))


@pytest.mark.parametrize("cut", range(1, 40))
def test_torn_last_line(cut: int) -> None:
    """A last line that a crash tore is passed over and reported; nothing is ever appended behind it."""
    disk, reports = FaultyDisk(), list[str]()
    opened(disk).append(entry("held", why="first"))
    ledger = opened(disk)
    ledger.append(entry("held", KEYS[1], why="second"))
    disk.put(PATH, disk.read(PATH)[:-cut])
    again = opened(disk, reports)
    whole = cut == 1  # without its line end, the line is still what was meant
    assert len(reports) == (not whole)
    assert set(again.book.held) == {(KEYS[0], "far")} | ({(KEYS[1], "far")} if whole else set())
    again.append(entry("held", KEYS[2], why="third"))
    assert (KEYS[2], "far") in said(disk).held


def test_every_damaged_byte() -> None:
    """Each flipped byte costs at most the lines it touches, is reported, and the file is kept aside."""
    source = FaultyDisk()
    ledger = opened(source)
    ledger.append()
    for key in KEYS:
        ledger.append(entry("held", key, why="w"))
    content = source.read(PATH)
    for at in range(len(content) - 1):
        disk, reports = FaultyDisk(), list[str]()
        disk.put(PATH, content)
        disk.flip(PATH, at, 0x01)
        held = opened(disk, reports).book.held
        assert reports
        assert all(str(PATH) in report for report in reports)
        assert set(held) <= set(ledger.book.held)
        assert len(held) >= len(KEYS) - 2
        assert disk.read(f"{PATH}.damaged") == disk.read(PATH)


@pytest.mark.parametrize("step", ["write", "sync", "create", "rename", "sync_folder", "cut"])
def test_failed_append_then_a_repeat(step: str) -> None:
    """An append that the disk refused is an OSError; its repeat goes to a new file that has everything."""
    disk = FaultyDisk()
    ledger = opened(disk)
    if step in ("write", "sync"):
        ledger.append(entry("held", why="before"))
    disk.faults.append(Fault(step, errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        ledger.append(entry("held", KEYS[1], why="now"))
    if step not in ("sync_folder", "cut"):  # the new file may be there already
        assert ("app", "lane", 5) not in {key for key, _ in read_book(disk.after_power_cut(), PATH)[0].held}
    ledger.append(entry("held", KEYS[1], why="now"))
    assert (KEYS[1], "far") in said(disk.after_power_cut()).held
    assert said(disk.after_power_cut()) == ledger.book


def test_synced_means_durable() -> None:
    """A synced entry is there after a power cut; a mark that was not synced may be gone, and harms nobody."""
    disk = FaultyDisk()
    ledger = opened(disk)
    ledger.append(entry("held", why="w"))
    ledger.append(entry("trying", KEYS[1]), sync=False)
    assert said(disk.after_power_cut()).trying == set()
    assert said(disk.after_kill()).trying == {(KEYS[1], "far")}
    ledger.append(entry("memo", note="n"))
    assert said(disk.after_power_cut()) == ledger.book


def test_it_folds_when_it_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays small where segments go, and is not written anew for each entry where they stay."""
    monkeypatch.setattr(module, "FOLD_BYTES", 2000)
    for gone in (True, False):
        disk = FaultyDisk()
        keys = [("app", "lane", number) for number in range(300)]
        ledger = opened(disk, gone=set(keys) if gone else set())
        for key in keys:
            ledger.append(entry("delivered", key, n={"delivered": 1}))
        folds = sum(step == "rename" for step, _ in disk.steps)
        assert 2 <= folds <= (20 if gone else 8)
        assert said(disk).totals == {("app", "far"): Totals(delivered=300)}
        assert (disk.size(PATH) < 5000) == gone


def lines_of(disk: FaultyDisk) -> list[bytes]:
    return disk.read(PATH).splitlines(keepends=True)


def three_totals() -> FaultyDisk:
    """Of two segments that are gone, and of one that is there: to deliver that twice would change nothing anyhow."""
    disk = FaultyDisk()
    ledger = opened(disk, gone={KEYS[0], KEYS[2]})
    for key in KEYS:
        ledger.append(entry("delivered", key, n={"delivered": 1}))
    ledger.fold()
    return disk


def test_lines_twice_swapped_or_missing() -> None:
    """A line that is there twice counts once, lines in another order all count; these and missing ones are reported."""
    whole = lines_of(three_totals())
    for number in range(1, len(whole) - 1):
        before, behind = whole[:number], whole[number + 1 :]
        twice, swapped = [*before, whole[number], *whole[number:]], [*before, behind[0], whole[number], *behind[1:]]
        for content in (twice, swapped, [*before, *behind]):
            disk = FaultyDisk()
            disk.put(PATH, b"".join(content))
            book, bad = read_book(disk, PATH)
            assert bad
            assert len(content) < len(whole) or book.totals == said(three_totals()).totals


def test_lines_of_format_1() -> None:
    """Lines without numbers are read as they were."""
    disk = FaultyDisk()
    told = b'{"t":"held","s":["app","lane",0],"d":"far","why":"w"}'
    disk.put(PATH, b"%08x %s\n" % (crc32(told), told))
    assert said(disk).held == {(KEYS[0], "far"): "w"}


def test_newer_format_is_refused() -> None:
    """A ledger of a later release is refused by name."""
    disk = FaultyDisk()
    disk.put(PATH, module._line(0, {"ledger": 5}))
    with pytest.raises(NewerFormat, match="/ledger has format version 5, this release reads up to 4"):
        opened(disk)


class CountingDisk(LocalDisk):
    """Holds each sync of a file until it may go, and counts them."""

    def __init__(self) -> None:
        self.syncs = 0
        self.go = threading.Event()

    def reopen(self, path: str, size_bytes: int) -> Writer:
        return CountingWriter(self, super().reopen(path, size_bytes))


class CountingWriter:
    def __init__(self, disk: CountingDisk, writer: Writer) -> None:
        self._disk = disk
        self._writer = writer

    def write(self, *chunks: bytes | memoryview | pa.Buffer) -> int:
        return self._writer.write(*chunks)

    def sync(self) -> None:
        self._disk.go.wait(300)
        self._disk.syncs += 1
        self._writer.sync()

    def close(self) -> None:
        self._writer.close()


def test_commits_share_syncs(tmp_path: Path) -> None:
    """Commits that meet at the disk wait for one sync, and every one of them is durable when it returns."""
    disk = CountingDisk()
    path = str(tmp_path / "ledger")
    ledger = Ledger(disk, path, lambda problem: None, lambda keys: set())
    ledger.append()
    written = threading.Barrier(9)

    def commit(number: int) -> None:
        ledger.append(entry("memo", ("app", "lane", number), note="n"), sync=False)
        written.wait(300)
        ledger.append(entry("held", ("app", "lane", number), why="w"))

    with ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(commit, number) for number in range(8)]
        written.wait(300)
        disk.go.set()
        for job in jobs:
            job.result(300)
    assert 1 <= disk.syncs <= 8
    book, bad = read_book(disk, path)
    assert (len(book.held), bad) == (8, [])
    ledger.close()


def test_folds_and_commits_at_once(tmp_path: Path) -> None:
    """Folding while others commit loses no entry and fails no commit."""
    disk, path = LocalDisk(), str(tmp_path / "ledger")
    ledger = Ledger(disk, path, lambda problem: None, lambda keys: set())

    def commits(start: int) -> None:
        for number in range(start, start + 40):
            ledger.append(entry("delivered", ("app", "lane", number), n={"delivered": 1}))
            if number % 4 == 0:
                ledger.fold()

    with ThreadPoolExecutor(4) as threads:
        for job in [threads.submit(commits, 100 * number) for number in range(4)]:
            job.result(300)
    ledger.close()
    book, bad = read_book(disk, path)
    assert (book.totals["app", "far"], bad) == (Totals(delivered=160), [])
