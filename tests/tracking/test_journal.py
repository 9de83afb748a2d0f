"""Journals of many runs: small on disk, read again after a kill, and written by older versions."""

import json

from flowerml.tracking.journal import Journal


def write_trials(journal: Journal, count: int, epochs: int = 10) -> None:
    """Write a search as the mirror acknowledges it."""
    journal.create("search", name="search", tags={}, time=0)
    journal.assign("search", "0" * 32)
    journal.acknowledge(1)
    for number in range(count):
        run = f"search/trial {number}"
        journal.create(run, name=f"trial {number}", tags={"a": "b"}, time=0)
        journal.log(run, params=[("seed", "0")])
        journal.assign(run, f"{number:032x}")
        journal.acknowledge(2)
        for epoch in range(epochs):
            journal.log(run, metrics=[("loss", 0.5, 0, epoch)])
        journal.end(run, "FINISHED", time=1)
        journal.acknowledge(epochs + 1)


def test_bytes_grow_with_the_trials(tmp_path):
    sizes = []
    for count in (100, 400):
        journal = Journal(tmp_path / f"{count}.jsonl")
        write_trials(journal, count)
        sizes.append(journal.path.stat().st_size)
    assert sizes[1] < 4.1 * sizes[0]


def test_sent_trials_leave_no_entries_in_memory(tmp_path):
    journal = Journal(tmp_path / "runs.jsonl")
    write_trials(journal, 20)
    for each in (journal, Journal(journal.path)):
        assert each.pending == 0 and list(each.unsent(9)) == [] and each.open_runs == ["search"]
        assert len(each) == each.sent == 1 + 20 * 13 and len(each.ids) == 21


def test_ended_trial_that_is_resumed_is_read_again(tmp_path):
    first = Journal(tmp_path / "runs.jsonl")
    write_trials(first, 3)
    first.close()
    journal = Journal(first.path)
    journal.create("search/trial 1", name="trial 1", tags={}, time=2)
    journal.log("search/trial 1", params=[("seed", "0")], metrics=[("loss", 0.5, 0, 9), ("loss", 0.4, 0, 10)])
    journal.log("search/trial 2", params=[("seed", "0")])
    resumed, logged = journal.unsent(9)
    assert resumed["status"] == "RUNNING" and journal.open_runs == ["search/trial 1", "search"]
    assert logged["metrics"] == [["loss", 0.4, 0, 10]] and logged["params"] == []


def test_reason_of_a_resumed_run_is_kept(tmp_path):
    journal = Journal(tmp_path / "runs.jsonl")
    journal.create("search", name="search", tags={}, time=0)
    journal.log("search", tags=[("reason", "its process was killed")])
    journal.end("search", "KILLED", time=1)
    journal.close()
    again = Journal(journal.path)
    again.create("search", name="search", tags={}, time=2)
    assert list(again.unsent(9))[-1]["tags"] == [["reason", "resumed after: its process was killed"]]


def test_receipts_of_older_versions_are_read(tmp_path):
    lines = [
        {"facts": {"id": "abc", "server": "here", "experiment": "1", "resume": ""}},
        {"do": "create", "run": "search", "name": "search", "tags": {}, "time": 0},
        {"sent": 1, "ids": {"search": "1"}},
        {"do": "create", "run": "search/trial 0", "name": "trial 0", "tags": {}, "time": 0},
        {"sent": 2, "ids": {"search": "1", "search/trial 0": "2"}},
        {"do": "log", "run": "search/trial 0", "metrics": [["loss", 0.5, 0, 1]], "params": [], "tags": []},
    ]
    path = tmp_path / "runs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    journal = Journal(path)
    assert journal.ids == {"search": "1", "search/trial 0": "2"} and journal.header["id"] == "abc"
    assert list(journal.unsent(9)) == lines[-1:] and journal.open_runs == ["search/trial 0", "search"]
    journal.log("search/trial 0", metrics=[("loss", 0.5, 0, 1)])
    assert journal.pending == 1
