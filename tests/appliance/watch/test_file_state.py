"""The state machine of a file: every state and event, and what happens to the table."""

import pytest

from appliance.watch.file_index import FileIndex
from appliance.watch.file_state import RELEASES, TRANSITIONS, FileEvent, FileState, WatchedFile, next_state

S, E = FileState, FileEvent

# One row for each state, one column for each event; - is an impossible event, x removes the file from the table.
COLUMNS = (
    *(E.SETTLED, E.UNREADABLE, E.CONTENT_NEW, E.CONTENT_DONE, E.CONTENT_DUPLICATE, E.CONTENT_OUTPUT),
    *(E.SUBMITTED, E.JOB_DONE, E.JOB_FAILED, E.JOB_CANCELLED, E.JOB_RESTARTED),
    *(E.ORIGINAL_RELEASED, E.DISMISSED, E.CHANGED, E.GONE),
)
TABLE = """
    seen       stable -      -         -    -         -      -      -    -      -       -      -    -       seen x
    stable     -      failed validated done duplicate output -      -    -      -       -      -    -       seen x
    validated  -      -      -         -    -         -      queued -    -      -       -      -    -       seen x
    queued     -      -      -         -    -         -      -      done failed ignored -      -    -       seen -
    done       -      -      -         -    -         -      -      -    -      -       -      -    -       seen -
    duplicate  -      -      -         -    -         -      -      -    -      -       -      seen -       seen x
    output     -      -      -         -    -         -      -      -    -      -       -      -    -       seen x
    failed     -      failed validated done duplicate output -      done -      -       queued -    ignored seen x
    ignored    -      -      -         -    -         -      -      done -      -       queued -    -       seen x
"""
ROWS = {words[0]: words[1:] for line in TABLE.splitlines() if (words := line.split())}


def test_the_table_has_every_state_and_event():
    assert set(ROWS) == set(FileState)
    assert set(COLUMNS) == set(FileEvent)
    assert {len(row) for row in ROWS.values()} == {len(COLUMNS)}


@pytest.mark.parametrize("state", FileState)
@pytest.mark.parametrize("event", FileEvent)
def test_each_event_leads_to_the_next_state_or_is_refused(state, event):
    expected = ROWS[state][COLUMNS.index(event)]

    if expected == "-":
        with pytest.raises(ValueError, match=f"a file that is {state} cannot get the event"):
            next_state(state, event)
    else:
        assert next_state(state, event) == (None if expected == "x" else expected)


def test_every_state_is_reached_from_a_new_file_and_leads_on():
    reached = {S.SEEN}
    for _ in FileState:
        reached |= {after for (state, _), after in TRANSITIONS.items() if state in reached and after is not None}

    assert reached == set(FileState)
    assert {state for state, _ in TRANSITIONS} == set(FileState)
    assert set(TRANSITIONS) >= RELEASES


@pytest.fixture
def index(box):
    return FileIndex(box.store.files(box.add().id))


def put(index, state, name="a.mp4", **fields):
    index.add([WatchedFile(name, 1, 1, state, **fields)])
    return index.get(name)


@pytest.mark.parametrize(("state", "event"), [*TRANSITIONS])
def test_a_transition_is_in_the_index_and_in_the_database(index, state, event):
    file = put(index, state)

    index.transition(file, event)

    after = next_state(state, event)
    stored = [] if after is None else [WatchedFile("a.mp4", 1, 1, after)]
    assert index.all() == index.table.files() == stored


def test_a_refused_event_changes_nothing(index):
    file = put(index, S.DONE)

    with pytest.raises(ValueError, match="'submitted'"):
        index.transition(file, E.SUBMITTED)

    assert index.all() == index.table.files() == [file]


def test_a_transition_that_is_rolled_back_changes_nothing(box, index):
    file = put(index, S.VALIDATED)

    def submit_and_fail():
        with box.database.transaction():
            index.transition(file, E.SUBMITTED, job="job")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        submit_and_fail()

    assert index.all() == index.table.files() == [file]


@pytest.mark.parametrize(("state", "event"), [*TRANSITIONS])
def test_a_file_that_will_not_be_processed_releases_its_content_and_its_duplicates(index, tmp_path, state, event):
    target = tmp_path / "a.mp4"
    index.table.claim_content("digest", "{}", "a.mp4")
    index.table.reserve(target)
    twin = put(index, S.DUPLICATE, "twin.mp4", digest="digest", same_as="a.mp4")
    file = put(index, state, digest="digest", target=target)

    index.transition(file, event)

    released = (state, event) in RELEASES
    assert index.table.claim_content("digest", "{}", "b.mp4") == (("b.mp4", True) if released else ("a.mp4", False))
    assert index.table.reserve(target) is released
    assert index.get("twin.mp4") == (WatchedFile("twin.mp4", 1, 1, S.SEEN) if released else twin)
