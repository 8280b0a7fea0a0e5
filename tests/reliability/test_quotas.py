"""CPU quotas of control groups, of versions 1 and 2, wherever they are mounted, in made-up and in real systems."""

import math
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

import fastnn
from fastnn import threads
from fastnn.kernels import runtime

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
ROOT2, ROOT1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"


def v1(folder, quota, period=100000):
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


def v2(folder, text):
    return {f"{folder}/cpu.max": text + "\n"}


# what: (/proc/self/cgroup, /proc/self/mountinfo, other files, CPUs)
LAYOUTS = {
    "no files at all": (None, None, {}, math.inf),
    "no control groups": ("", "", {}, math.inf),
    "2: a container": ("0::/", V2, v2(ROOT2, "150000 100000"), 1.5),
    "2: no quota": ("0::/", V2, v2(ROOT2, "max 100000"), math.inf),
    "2: the root has no file": ("0::/", V2, {}, math.inf),
    "2: a slice": ("0::/a.slice/b.service", V2, v2(f"{ROOT2}/a.slice/b.service", "200000 100000"), 2),
    "2: an ancestor is the tightest": (
        "0::/a/b/c", V2,
        v2(ROOT2, "max 100000") | v2(f"{ROOT2}/a", "300000 100000") | v2(f"{ROOT2}/a/b", "50000 100000")
        | v2(f"{ROOT2}/a/b/c", "800000 100000"), 0.5,
    ),
    "2: a sibling does not count": ("0::/a", V2, v2(f"{ROOT2}/b", "100000 100000"), math.inf),
    "2: a group whose name begins like the mount's": (
        "0::/docker/12", V2.replace(" / /sys", " /docker/1 /sys"),
        v2(ROOT2, "300000 100000") | v2(f"{ROOT2}/2", "100000 100000"), 3,
    ),
    "2: a mount of a part": (
        "0::/docker/1/x", V2.replace(" / /sys", " /docker/1 /sys"), v2(f"{ROOT2}/x", "100000 100000"), 1,
    ),
    "2: outside of the namespace": (
        "0::/../../other", V2, v2(ROOT2, "400000 100000") | v2("other", "100000 100000"), 4,
    ),
    "2: a name with colons and spaces": (
        "0::/a:b c", V2.replace("/sys/fs/cgroup", "/mnt/my\\040groups"), v2("mnt/my groups/a:b c", "100000 100000"), 1,
    ),
    "1: a container": ("4:cpu,cpuacct:/", V1, v1(ROOT1, 250000), 2.5),
    "1: no quota": ("4:cpu,cpuacct:/", V1, v1(ROOT1, -1), math.inf),
    "1: no file of the period": ("4:cpu:/", V1, {f"{ROOT1}/cpu.cfs_quota_us": "100000"}, math.inf),
    "1: nested": (
        "5:memory:/m\n4:cpu,cpuacct:/a/b\n1:name=systemd:/s", f"{MEMORY}\n{V1}",
        v1(ROOT1, -1) | v1(f"{ROOT1}/a", 50000, 25000) | v1(f"{ROOT1}/a/b", 700000), 2,
    ),
    "1: a container without a namespace": (
        "4:cpu,cpuacct:/docker/1", V1.replace(" / /sys", " /docker/1 /sys"), v1(ROOT1, 300000), 3,
    ),
    "1: only other controllers": ("5:memory:/m\n3:cpuset:/c", MEMORY, v1("sys/fs/cgroup/memory/m", 100000), math.inf),
    "1 and 2: the tighter one": (
        "4:cpu,cpuacct:/a\n0::/b", f"{V1}\n{V2.replace('/sys/fs/cgroup', '/sys/fs/cgroup/unified')}",
        v1(f"{ROOT1}/a", 400000) | v2("sys/fs/cgroup/unified/b", "300000 100000"), 3,
    ),
    "two mounts of one tree": (
        "0::/a", V2 + "\n" + V2.replace("/sys/fs/cgroup", "/other"), v2("other/a", "100000 100000"), 1,
    ),
}  # fmt: skip


@pytest.fixture
def system(tmp_path):
    """Make the files of a system below a folder, which is returned."""

    def make(cgroup, mountinfo, files):
        for path, text in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, **files}.items():
            if text is not None:
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(tmp_path)

    return make


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(system, layout):
    *files, cpus = LAYOUTS[layout]
    assert threads.cgroup_cpus(system(*files)) == cpus


MALFORMED_TABLES = {
    "cgroup": [
        "", "\n\n", "0", "0::", ":::::", "4:cpu", "x:y:z", b"\xff\xfe\n0", "4:cpu,cpuacct:", "\0", "0::" + "/b" * 9999,
    ],
    "mountinfo": [
        "", "- - -", " - ", "1 2 3", "1 2 3 4 5 - cgroup2", V2[:40], V2.replace(" - ", " "),
        V2.replace(" / ", " \\777 "),
        "30 23 0:26 / - cgroup2 cgroup2 rw", b"\xff\xfe - \xff", "\0", V2.replace("/sys/fs/cgroup", "\\000"),
    ],
}  # fmt: skip
MALFORMED_QUOTAS = [
    "", "\n", "max", "100000", "1 2 3", "-5 100000", "100000 0", "0 100000", "0x10 5", "1e5 100000", "one two",
    "100000 max", b"\xff\xfe 1", "\0", "100000 -100000", "1.5 1", "²  1", "٣ 1", "100000,100000",
    "9" * 5000 + " 1", "1 " + "9" * 400,
]  # fmt: skip


def named(text):
    return repr(text)[:30]


@pytest.mark.parametrize("text", MALFORMED_QUOTAS, ids=named)
def test_malformed_quotas_are_none(system, text):
    assert threads.cgroup_cpus(system("0::/", V2, {f"{ROOT2}/cpu.max": text})) == math.inf


@pytest.mark.parametrize("text", [text for text in MALFORMED_QUOTAS if text != "100000"], ids=named)  # right here
@pytest.mark.parametrize("name", ["cpu.cfs_quota_us", "cpu.cfs_period_us"])
def test_malformed_quotas_of_version_1(system, name, text):
    files = {**v1(ROOT1, 100000), f"{ROOT1}/{name}": text}
    assert threads.cgroup_cpus(system("4:cpu:/", V1, files)) == math.inf


@pytest.mark.parametrize("name", MALFORMED_TABLES)
def test_malformed_tables(system, name):
    """They hide groups, and break nothing; lines that can be read count."""
    files = v2(f"{ROOT2}/a", "100000 100000") | v2(ROOT2, "200000 100000")
    for text in MALFORMED_TABLES[name]:
        tables = {"cgroup": "0::/a", "mountinfo": V2} | {name: text}
        assert threads.cgroup_cpus(system(tables["cgroup"], tables["mountinfo"], files)) in (2, math.inf), text
        good = b"0::/a" if name == "cgroup" else V2.encode()
        tables[name] = (text if isinstance(text, bytes) else text.encode()) + b"\n" + good
        assert threads.cgroup_cpus(system(tables["cgroup"], tables["mountinfo"], files)) == 1, text


def test_folders_in_place_of_files(system, tmp_path):
    root = system("0::/", V2, {f"{ROOT2}/cpu.max/x": "1"})
    assert threads.cgroup_cpus(root) == math.inf
    (tmp_path / "proc/self/cgroup").unlink()
    (tmp_path / "proc/self/cgroup").mkdir()
    assert threads.cgroup_cpus(root) == math.inf


@pytest.mark.parametrize(("quota", "cpus"), [(0.2, 1), (1, 1), (1.1, 2), (1e9, None), (math.inf, None)])
def test_quotas_and_affinity(monkeypatch, quota, cpus):
    """The smaller one, rounded up."""
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: quota)
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert threads.available_cpus() == min(affinity, cpus or affinity)


# ---- this system ----


@pytest.fixture
def group():
    """A new control group with a quota of one CPU, and one in it without, whose folder is returned.
    Version 1, or version 2 where the controller is handed down."""
    roots = [folder for folder in map(Path, threads.cpu_groups()) if (folder / "cgroup.procs").exists()]
    outer, made = None, []
    for root in reversed(roots):
        try:
            outer = root / f"fastnn-{uuid.uuid4().hex}"
            for folder in (outer, outer / "inner"):
                folder.mkdir()
                made.append(folder)
            if (outer / "cpu.max").exists():
                (outer / "cpu.max").write_text("100000 100000")
            else:
                (outer / "cpu.cfs_quota_us").write_text("100000")
            break
        except OSError as error:
            reason = error
            while made:
                made.pop().rmdir()
    if not made:
        pytest.skip(f"cannot make control groups here: {reason if roots else 'none are mounted'}")
    yield made[-1]
    for folder in reversed(made):
        folder.rmdir()


@pytest.mark.skipif(not runtime.OPENMP, reason="built without OpenMP: kernels are serial")
def test_quota_of_a_real_group(group, tmp_path):
    """The default number of threads of a process in a group within a group of one CPU."""
    (group / "cgroup.procs").touch()
    code = (
        "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); import fastnn; from fastnn import threads; "
        "print(threads.cgroup_cpus(), fastnn.get_num_threads())"
    )
    environment = {name: x for name, x in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment["PYTHONPATH"] = str(Path(fastnn.__file__).parents[1])
    command = [sys.executable, "-c", code, str(group / "cgroup.procs")]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    if "PermissionError" in result.stderr:
        pytest.skip("cannot put a process into a control group here")
    assert result.stdout.split() == ["1.0", "1"], result.stderr
