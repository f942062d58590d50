"""How much memory and time preparing a large subject takes, beside a plain nibabel read of the same files.

    python scripts/make_large_subject.py large --fraction 0.05
    python scripts/benchmark_prepare.py large

Both are run in processes of their own, in turn, ``--repeats`` times; the least time of each counts. Anonymous memory
(RssAnon: what a process holds beside files) is watched from outside and given over that of an interpreter with the
same imports. ``prepare`` is the whole stage: read, z-score by session, ceilings, summary, picture; hashing input and
output for the cache is not in it, and is what ``command`` has on top.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMPORTS = "import nibabel, numpy, scipy.io, h5py, matplotlib.figure, braindistill.stages.prepare"
READ = """
import sys, time, pathlib, nibabel
started = time.perf_counter()
for path in sorted(pathlib.Path(sys.argv[1]).rglob("betas_session*.nii.gz")):
    nibabel.load(path).get_fdata(dtype="float32", caching="unchanged")
print(time.perf_counter() - started)
"""
PREPARE = f"""
{IMPORTS}
import sys, time, pathlib, json
from braindistill.runtime import Runtime
from braindistill.stages import prepare
started = time.perf_counter()
config = dict(fmri=dict(json.loads(sys.argv[3]), name="nsd", root=sys.argv[1], zscore="session"))
prepare.run(config, dict(), pathlib.Path(sys.argv[2]), Runtime())
print(time.perf_counter() - started)
"""


def watch(command: list[str]) -> tuple[str, float]:
    """Run a command; its standard output, and the most anonymous memory it held, in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    status, most = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        text = status.read_text()
        if "RssAnon:" in text:
            most = max(most, int(text.split("RssAnon:")[1].split()[0]))
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:2])} … failed")
    return process.stdout.read() if process.stdout else "", most / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="made by make_large_subject.py")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workspace", type=Path, help="folder on the disk to write to (default: the temporary folder)")
    parser.add_argument("--options", default="{}", help="more fmri options, as JSON")
    given = parser.parse_args()
    python = [sys.executable, "-c"]
    baseline = watch([*python, f"{IMPORTS}; import time; time.sleep(0.5)"])[1]
    read, prepare, memory, read_memory = [], [], [], []
    for _ in range(given.repeats):
        seconds, used = watch([*python, READ, str(given.root)])
        read.append(float(seconds))
        read_memory.append(used - baseline)
        with tempfile.TemporaryDirectory(dir=given.workspace) as out:
            seconds, used = watch([*python, PREPARE, str(given.root), out, given.options])
            prepare.append(float(seconds.splitlines()[-1]))
            memory.append(used - baseline)
    with tempfile.TemporaryDirectory(dir=given.workspace) as cache:
        started = time.perf_counter()
        verb = shutil.which("braindistill", path=str(Path(sys.executable).parent)) or "braindistill"
        words = ["prepare", "fmri=nsd", f"fmri.root={given.root}", f"runtime.cache={cache}"]
        subprocess.run([verb, *words], check=True, stdout=subprocess.DEVNULL)
        command = time.perf_counter() - started
    figures = {
        "plain nibabel read, s": min(read),
        "prepare, s": min(prepare),
        "prepare / read": min(prepare) / min(read),
        "whole command with hashes, s": command,
        "RssAnon of prepare over the interpreter's, MB": max(memory),
        "RssAnon of the read over the interpreter's, MB": max(read_memory),
    }
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
