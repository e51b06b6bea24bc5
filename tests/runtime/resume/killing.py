"""Jobs that kill themselves as `kill -9` would, just before the n-th durable step; run by `test_survive.py`.

`killing.py SOURCE FOLDER PLAN...`: each PLAN is a comma-separated list of steps, one per attempt; the attempt after the
last runs to its end. `count` is a plan without a kill. One line of JSON per plan reports what is left.
"""

import hashlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from kernels.__main__ import compile_all
from runtime.enhance import enhance
from runtime.options import EnhanceOptions
from runtime.resume.workspace import Workspace
from runtime.resume.writer import SegmentRule
from tests.killing import StepCounter

RULE = SegmentRule(5, 10)
OPTIONS = EnhanceOptions(preset="restore", threads=2)
STEPS = ("fsync", "replace", "link", "unlink")


def note_digests(folder: Path) -> None:
    """Record the digests of the work outside the workspace before it is cleared."""
    clear = Workspace.clear
    path = folder / "digests.json"

    def note(workspace: Workspace) -> None:
        if workspace.manifest.segments and not path.exists():
            found = {
                file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in workspace.folder.glob("*.packets")
            }
            path.write_text(json.dumps(found))
        clear(workspace)

    Workspace.clear = note  # type: ignore[method-assign]


def attempt(source: Path, folder: Path, last: int | None) -> int:
    """Run one attempt in its own process and return the signal that ended it, or 0 for a job that is done."""
    child = os.fork()
    if child == 0:
        try:
            note_digests(folder)
            counter = StepCounter(STEPS, last)
            report = enhance(source, folder / "out.mp4", OPTIONS, workspace=folder / "work", rule=RULE)
            (folder / "done.json").write_text(
                json.dumps({"steps": counter.steps, "resumes": report.resumes, "equal": report.picture.pts_equal})
            )
        except BaseException:
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"an attempt failed with {os.WEXITSTATUS(status)}")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def main() -> None:
    """Run every plan."""
    source, base = Path(sys.argv[1]), Path(sys.argv[2])
    compile_all()
    for number, plan in enumerate(sys.argv[3:]):
        folder = base / f"{number:03d}"
        folder.mkdir(parents=True)
        killed = 0
        for step in [] if plan == "count" else plan.split(","):
            ended = attempt(source, folder, int(step))
            killed += ended == signal.SIGKILL
            if not ended:
                break
        assert attempt(source, folder, None) == 0
        done = json.loads((folder / "done.json").read_text())
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        digests = json.loads((folder / "digests.json").read_text())
        print(json.dumps({"plan": plan, "killed": killed, "files": files, "digests": digests, **done}), flush=True)


if __name__ == "__main__":
    main()
