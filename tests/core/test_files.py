"""Files are replaced when they are whole, and what killed processes have left is removed."""

import os
import subprocess
import sys
import time

from flowerml.core import files


def test_what_a_process_that_has_ended_left_is_removed_though_nobody_has_asked_how_it_ended(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    while os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT) is None:
        time.sleep(0.01)
    (tmp_path / f".target.json.{ended.pid}.tmp").write_text("half")
    files.write_json(tmp_path / "target.json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["target.json"]
    ended.wait()


def test_what_a_process_at_work_is_writing_stays(tmp_path):
    working = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / f".target.json.{working.pid}.tmp").write_text("half")
    files.write_json(tmp_path / "target.json", 1)
    assert len(list(tmp_path.iterdir())) == 2
    working.communicate(b"\n")
