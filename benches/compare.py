#!/usr/bin/env python3
"""Times the command `pefc` against archivers and backup programs, on a directory of yours.

    cargo build --release
    benches/compare.py DIRECTORY [RUNS]

Peers: `tar | zstd -3 -T0`, restic, borg, and squashfs for reading one file; the ones that are not
installed are left out. $PEFC names another binary than target/release/pefc.

Every operation runs once to warm the page cache and to check the result, and then RUNS times (5):
in each round all programs take their turn, beginning with another one each time, so that what
disturbs the machine disturbs them all. Programs write to a scratch directory below $TMPDIR, which
is removed.
"""

import filecmp
import os
import shutil
import signal
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS_DEFAULT = 5
OUTPUT = "output"  # what a command printed, in the scratch directory
DEBIAN_PACKAGES = {
    "zstd": "zstd",
    "restic": "restic",
    "borg": "borgbackup",
    "mksquashfs": "squashfs-tools",
    "unsquashfs": "squashfs-tools",
    "/usr/bin/time": "time",
}


class Sample:
    """What one run took."""

    def __init__(self, wall_s, cpu_s, rss_bytes):
        self.wall_s = wall_s
        self.cpu_s = cpu_s
        self.rss_bytes = rss_bytes


class Input:
    """The directory that is packed, and the file of it that is read alone."""

    def __init__(self, directory):
        self.path = directory
        self.parent, self.base = directory.parent, directory.name
        files, self.file_count, self.bytes = [], 0, 0
        for root, _, names in os.walk(directory):
            for name in names:
                info = os.lstat(os.path.join(root, name))
                if stat.S_ISREG(info.st_mode):
                    self.file_count += 1
                    self.bytes += info.st_size
                    if info.st_size:
                        files.append(os.path.relpath(os.path.join(root, name), directory))
        if not files:
            sys.exit(f"{directory}: no file in it has a byte")
        files.sort(key=os.fsencode)
        self.middle = files[len(files) // 2]
        self.key = f"{self.base}/{self.middle}"


class Tool:
    """A program with its archive. `verb()` gives the commands of a pipe; None: it has no such."""

    name = ""
    programs = ()
    # Exit codes that mean success besides 0, by operation.
    success = {}

    def __init__(self, scratch, source):
        self.home = scratch / self.name.split()[0]
        self.home.mkdir()
        self.archive = self.home / "archive"
        self.target = self.home / "target"
        self.source = source
        self.environment = {}

    def forget(self):
        """Makes way for another `create`. Not timed, as what follows up to the command is not."""
        remove(self.archive)

    def size(self):
        """Bytes of the archive."""
        return tree_bytes(self.archive)

    def extracted(self):
        """Where `extract` puts the directory."""
        return self.target / self.source.base

    def version(self):
        """The first line of what it says of itself."""
        run = subprocess.run([self.programs[0], "--version"], capture_output=True, text=True)
        return (run.stdout + run.stderr).partition("\n")[0]

    def prepare(self):
        """Once, before the first operation."""


class Pefc(Tool):
    name = "pefc"
    success = {"verify": (4,)}  # intact, not authenticated

    def __init__(self, scratch, source, program):
        super().__init__(scratch, source)
        self.programs = (program,)
        self.archive = self.home / "archive.pefc"

    def create(self):
        return [[*self.programs, "create", self.archive, self.source.path]]

    def extract(self):
        return [[*self.programs, "extract", self.archive, "-C", self.target]]

    def verify(self):
        return [[*self.programs, "verify", self.archive]]

    def list(self):
        return [[*self.programs, "list", self.archive]]

    def cat(self):
        return [[*self.programs, "cat", self.archive, self.source.key]]


class TarZstd(Tool):
    name = "tar | zstd"
    programs = ("zstd", "tar")
    success = {"cat": (-signal.SIGPIPE,)}  # tar has found the file and leaves

    def create(self):
        tar = ["tar", "-cf", "-", "-C", self.source.parent, self.source.base]
        return [tar, ["zstd", "-q", "-3", "-T0", "-o", self.archive]]

    def decompress(self, *tar):
        return [["zstd", "-q", "-dc", self.archive], ["tar", *tar]]

    def extract(self):
        return self.decompress("-xf", "-", "-C", self.target)

    def verify(self):
        return [["zstd", "-q", "-t", self.archive]]

    def list(self):
        return self.decompress("-tf", "-")

    def cat(self):
        return self.decompress("-xOf", "-", "--occurrence=1", self.source.key)


class Restic(Tool):
    name = "restic"
    programs = ("restic",)

    def __init__(self, scratch, source):
        super().__init__(scratch, source)
        password = self.home / "password"
        password.write_text("no secret\n")
        self.command = ["restic", "-q", "-r", self.archive, "--password-file", password]
        self.command += ["--cache-dir", self.home / "cache"]

    def forget(self):
        super().forget()
        remove(self.home / "cache")
        quietly([*self.command, "init", "--repository-version", "2"])

    def create(self):
        # With the parent as working directory, so that paths begin with the directory's name.
        return [[*self.command, "backup", self.source.base]]

    def extract(self):
        return [[*self.command, "restore", "latest", "--target", self.target]]

    def verify(self):
        return [[*self.command, "check", "--read-data"]]

    def list(self):
        return [[*self.command, "ls", "latest"]]

    def cat(self):
        return [[*self.command, "dump", "latest", f"/{self.source.key}"]]

    def version(self):
        run = subprocess.run(["restic", "version"], capture_output=True, text=True)
        return run.stdout.strip()


class Borg(Tool):
    name = "borg"
    programs = ("borg",)

    def __init__(self, scratch, source):
        super().__init__(scratch, source)
        self.environment = {
            "BORG_BASE_DIR": str(self.home),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }
        self.named = f"{self.archive}::a"

    def forget(self):
        super().forget()
        for name in (".cache", ".config"):
            remove(self.home / name)
        quietly(["borg", "init", "-e", "none", self.archive], self.environment)

    def create(self):
        return [["borg", "create", "--compression", "zstd,3", self.named, self.source.base]]

    def extract(self):
        return [["borg", "extract", self.named]]

    def verify(self):
        return [["borg", "check", "--verify-data", self.archive]]

    def list(self):
        return [["borg", "list", "--short", self.named]]

    def cat(self):
        return [["borg", "extract", "--stdout", self.named, self.source.key]]


class Squashfs(Tool):
    """Made beforehand; only reading one file is compared."""

    name = "squashfs"
    programs = ("unsquashfs", "mksquashfs")
    create = extract = verify = list = None

    def prepare(self):
        options = ["-comp", "zstd", "-no-progress", "-quiet"]
        quietly(["mksquashfs", self.source.path, self.archive, *options])

    def cat(self):
        return [["unsquashfs", "-cat", self.archive, self.source.middle]]

    def version(self):
        run = subprocess.run(["unsquashfs", "-version"], capture_output=True, text=True)
        return run.stdout.partition("\n")[0]


OPERATIONS = {
    "create": "zstd level 3 everywhere but in restic, which has its own default",
    "extract": "to an empty directory",
    "verify": "pefc verify, zstd -t, restic check --read-data, borg check --verify-data",
    "list": "names only",
    "cat": "one file, the middle one by name",
}


def remove(path):
    """Removes a file or a tree, directories without write permission included."""
    if path.is_dir() and not path.is_symlink():
        for root, _, _ in os.walk(path):
            os.chmod(root, 0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def tree_bytes(path):
    if path.is_file():
        return path.stat().st_size
    names = (os.path.join(root, name) for root, _, names in os.walk(path) for name in names)
    return sum(os.lstat(name).st_size for name in names)


def quietly(command, environment=None):
    """Runs a command that is not timed."""
    run = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
    )
    if run.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {run.stdout.decode(errors='replace')}")


def measure(tool, operation, scratch, directory):
    """Runs the commands of a pipe, with the output of the last one in a file."""
    pipe = getattr(tool, operation)()
    reports = [scratch / f"time-{number}" for number in range(len(pipe))]
    environment = {**os.environ, **tool.environment}
    children = []
    with open(scratch / OUTPUT, "wb") as output, open(scratch / "errors", "wb+") as errors:
        reader = subprocess.DEVNULL
        start = time.perf_counter()
        for number, command in enumerate(pipe):
            last = number == len(pipe) - 1
            child = subprocess.Popen(
                [*resident_set_command(reports[number]), *command],
                cwd=directory,
                env=environment,
                stdin=reader,
                stdout=output if last else subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
            if reader is not subprocess.DEVNULL:
                reader.close()
            reader = child.stdout
            children.append(child)
        try:
            ended = [os.wait4(child.pid, 0) for child in children]
        except BaseException:
            for child in children:  # or they would go on writing to what is removed
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
                except OSError:
                    pass
            raise
        wall_s = time.perf_counter() - start
        for child, (_, status, _) in zip(children, ended):
            child.returncode = os.waitstatus_to_exitcode(status)
        codes = [timed_code(child.returncode) for child in children]
        if not set(codes) <= {0, *tool.success.get(operation, ())}:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-2000:]
            commands = " | ".join(" ".join(map(str, command)) for command in pipe)
            sys.exit(f"{commands}\nleft with {codes}:\n{said}")
    usages = [usage for _, _, usage in ended]
    cpu_s = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return Sample(wall_s, cpu_s, sum(map(resident_set, reports, usages)))


HAS_TIME = os.access("/usr/bin/time", os.X_OK)


def resident_set_command(report):
    """The kernel counts a process's peak from before its exec: a small parent keeps it honest."""
    return ["/usr/bin/time", "-q", "-f", "%M", "-o", report] if HAS_TIME else []


def resident_set(report, usage):
    if not HAS_TIME:
        return usage.ru_maxrss * 1024
    return int(report.read_text().split()[-1]) * 1024


def timed_code(code):
    """GNU time leaves with 128 + the number of the signal that ended the command."""
    return 128 - code if HAS_TIME and code > 128 else code


def same_tree(one, other):
    """Whether two trees have the same names, kinds, link targets and contents."""
    names = sorted(os.listdir(one))
    if names != sorted(os.listdir(other)):
        return False
    for name in names:
        a, b = one / name, other / name
        kinds = [stat.S_IFMT(os.lstat(path).st_mode) for path in (a, b)]
        if kinds[0] != kinds[1]:
            return False
        same = {
            stat.S_IFDIR: same_tree,
            stat.S_IFREG: lambda a, b: filecmp.cmp(a, b, shallow=False),
            stat.S_IFLNK: lambda a, b: os.readlink(a) == os.readlink(b),
        }.get(kinds[0])
        if same and not same(a, b):
            return False
    return True


def check(tool, operation, scratch, source):
    """A program that does less is no peer."""
    output = scratch / OUTPUT
    if operation == "extract":
        right = same_tree(source.path, tool.extracted())
    elif operation == "list":
        right = os.fsencode(source.middle) in output.read_bytes()
    elif operation == "cat":
        right = filecmp.cmp(source.path / source.middle, output, shallow=False)
    else:
        right = True
    if not right:
        sys.exit(f"{tool.name} {operation}: not what was put in")


def run(tool, operation, scratch, source):
    directory = source.parent
    if operation == "create":
        tool.forget()
    elif operation == "extract":
        remove(tool.target)
        tool.target.mkdir()
        directory = tool.target
    return measure(tool, operation, scratch, directory)


def compare(tools, operation, runs, scratch, source):
    """Samples of every tool, taken in turns."""
    takers = [tool for tool in tools if getattr(tool, operation)]
    samples = {tool: [] for tool in takers}
    for tool in takers:
        run(tool, operation, scratch, source)
        check(tool, operation, scratch, source)
    for number in range(runs):
        turn = number % len(takers)
        for tool in takers[turn:] + takers[:turn]:
            settle(source if operation == "create" else None)
            samples[tool].append(run(tool, operation, scratch, source))
    for tool in takers:
        remove(tool.target)
    return samples


def settle(source):
    """No tool pays for what another one left to write, or dropped from the page cache (borg does)."""
    os.sync()
    for directory, _, names in os.walk(source.path) if source else ():
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    while file.read(1 << 20):
                        pass


def print_table(operation, samples):
    print(f"\n{operation} ({OPERATIONS[operation]})")
    print(f"{'':12}{'min s':>10}{'median s':>10}{'max s':>10}{'cpu s':>10}{'MiB':>8}  pefc/peer")
    ours = [sample.wall_s for sample in next(iter(samples.values()))]
    for tool, taken in samples.items():
        walls = [sample.wall_s for sample in taken]
        median = statistics.median(walls)
        line = f"{tool.name:12}{min(walls):10.4f}{median:10.4f}{max(walls):10.4f}"
        line += f"{statistics.median(sample.cpu_s for sample in taken):10.3f}"
        line += f"{max(sample.rss_bytes for sample in taken) / 2**20:8.1f}"
        if walls != ours:
            pairs = [our / wall for our, wall in zip(ours, walls)]
            ratio = statistics.median(ours) / median
            line += f"  {ratio:.3f} ({min(pairs):.3f} to {max(pairs):.3f} by round)"
        print(line, flush=True)


def print_sizes(tools, source):
    sizes = [(tool, tool.size()) for tool in tools]
    print(f"\nsize\n{'':12}{'bytes':>14}{'of input':>10}  pefc/peer")
    for tool, size in sizes:
        ratio = f"  {sizes[0][1] / size:.3f}" if tool is not tools[0] else ""
        print(f"{tool.name:12}{size:14,}{size / max(source.bytes, 1):10.1%}{ratio}")


def find_tools(scratch, source, program):
    tools = [Pefc(scratch, source, program)]
    for kind in (TarZstd, Restic, Borg, Squashfs):
        missing = [program for program in kind.programs if not shutil.which(program)]
        if missing:
            packages = " ".join(sorted({DEBIAN_PACKAGES.get(name, name) for name in missing}))
            print(f"left out: {kind.name} (on Debian: apt install {packages})")
        else:
            tools.append(kind(scratch, source))
    if not HAS_TIME:
        print("peak memory is at least this script's own (on Debian: apt install time)")
    return tools


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    arguments = sys.argv[1:]
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    directory = Path(arguments[0]).resolve()
    runs = int(arguments[1]) if arguments[1:] and arguments[1].isdigit() else RUNS_DEFAULT
    if not directory.is_dir() or runs < 1 or (arguments[1:] and not arguments[1].isdigit()):
        print("usage: benches/compare.py DIRECTORY [RUNS]", file=sys.stderr)
        return 2
    built = Path(__file__).resolve().parent.parent / "target" / "release" / "pefc"
    program = os.environ.get("PEFC") or str(built)
    found = shutil.which(program)
    if not found:
        print(
            f"{program}: no such program; build it (cargo build --release) or name it in $PEFC",
            file=sys.stderr,
        )
        return 2
    source = Input(directory)
    scratch = Path(tempfile.mkdtemp(prefix="pefc-compare-")).resolve()
    try:
        if directory == scratch or directory in scratch.parents:
            sys.exit("$TMPDIR is in the directory to be packed")
        print(f"{directory}: {source.file_count:,} files, {source.bytes:,} bytes")
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {runs} rounds")
        tools = find_tools(scratch, source, os.path.abspath(found))
        for tool in tools:
            print(f"{tool.name:12}{tool.version()}")
            tool.prepare()
        for operation in OPERATIONS:
            samples = compare(tools, operation, runs, scratch, source)
            print_table(operation, samples)
            if operation == "create":
                print_sizes(tools, source)
        print("\ntar | zstd does not wait for the disk; pefc, restic and borg do.")
    finally:
        remove(scratch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
