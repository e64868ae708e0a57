"""A pool's owner that is about to be killed. Run as ``python owner.py FOLDER WALL TOKEN``."""

from __future__ import annotations

import sys
from pathlib import Path

from upwright.warden.isolation import Limits, Pool
from upwright.warden.isolation.walls import Bubblewrap, Landlock

PROGRAM = """
import os, subprocess, time
command = ["/bin/sh", "-c", "trap '' TERM HUP INT; sleep 60; : TOKEN"]
def solve(question):
    subprocess.Popen(command, start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        os.execv(command[0], command)
    time.sleep(60)
"""

if __name__ == "__main__":
    folder, name, token = sys.argv[1:]
    wall = {"bubblewrap": Bubblewrap, "landlock": Landlock}[name]()
    with Pool(Path(folder), "plain", [], Limits(seconds=60.0), wall=wall, size=1) as pool:
        job = {"entry": "evaluator.py", "function": "exam", "program": "program.py"}
        pool.run(job, {"program.py": PROGRAM.replace("TOKEN", token)}, 1)
