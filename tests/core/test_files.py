"""Files are replaced when they are whole, and what killed processes have left is removed."""

import os
import subprocess
import sys
import time

from flowerml.core import files


def test_leftovers_of_a_zombie_are_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    while os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT) is None:
        time.sleep(0.01)
    (tmp_path / f".target.json.{ended.pid}.tmp").write_text("half")
    files.write_json(tmp_path / "target.json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["target.json"]
    ended.wait()


def test_files_of_a_live_process_stay(tmp_path):
    working = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / f".target.json.{working.pid}.tmp").write_text("half")
    files.write_json(tmp_path / "target.json", 1)
    assert len(list(tmp_path.iterdir())) == 2
    working.communicate(b"\n")
