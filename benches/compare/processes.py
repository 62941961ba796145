"""Starts, pins, watches and ends the processes of a run.

Every process lives in a session of its own and ends with its `Fleet`, whatever happens to the driver. The CPU time of a
contestant is that of its whole process tree, read from the kernel's clock of each process: user and system time, in
nanoseconds.
"""

import ctypes
import os
import re
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_given = set()


class Failed(Exception):
    """A row cannot stand: something answered wrongly, or died."""


class NotMeasured(Exception):
    """A contestant cannot take part; the text says why."""


def free_port():
    """A TCP port of loopback that nobody uses, and that was not given out before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def raise_file_limit(wanted):
    """Raises the limit of open files as far as this user may, up to `wanted`; tells what it is now."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def pinned(cores):
    """What a child does before it becomes the program: runs on these cores only, and ends when the driver does."""

    def prepare():
        os.sched_setaffinity(0, cores)
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    return prepare


class Process:
    """One program with all its children."""

    def __init__(self, name, command, cores, environment=None, stdout=subprocess.DEVNULL, log=None):
        self.name = name
        self.log = log
        with open(log, "ab") if log else open(os.devnull, "ab") as stderr:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=pinned(cores),
                env={**os.environ, **(environment or {})},
            )

    def pids(self):
        """The process and all that descend from it."""
        found, queue = [], [self.child.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            try:
                queue += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            except FileNotFoundError:
                raise Failed(f"{self.name} has ended{self.last_words()}") from None
        return sorted(found)

    def cpu(self):
        """CPU time in nanoseconds by process id."""
        try:
            return {pid: time.clock_gettime_ns((~pid << 3) | 2) for pid in self.pids()}
        except OSError:
            raise Failed(f"{self.name} has ended{self.last_words()}") from None

    def threads(self):
        """CPU time in nanoseconds by thread id and name."""
        found = {}
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").iterdir():
                name = (task / "comm").read_text().strip()
                found[int(task.name), name] = int((task / "schedstat").read_text().split()[0])
        return found

    def memory(self, field="VmRSS"):
        """Resident memory in KiB of the whole tree: `VmRSS` now, `VmHWM` at most so far."""
        total = 0
        for pid in self.pids():
            text = Path(f"/proc/{pid}/status").read_text()
            total += int(re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[1])
        return total

    def last_words(self):
        """The end of its log, for a message."""
        if not self.log or not Path(self.log).exists():
            return ""
        lines = Path(self.log).read_text(errors="replace").strip().splitlines()[-3:]
        return ": " + " | ".join(lines) if lines else ""

    def wait_for_port(self, port, seconds=20):
        """Returns once the port takes connections."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.child.poll() is not None:
                raise Failed(f"{self.name} did not start (status {self.child.returncode}){self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise Failed(f"{self.name} does not listen on its port{self.last_words()}")

    def settle(self, seconds=30):
        """Returns once it has nothing more to do on its own, such as looking whether a young file still changes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = sum(self.cpu().values())
            time.sleep(0.3)
            if sum(self.cpu().values()) - before < 3_000_000:
                return
        raise Failed(f"{self.name} does not come to rest within {seconds} s")

    def end(self, seconds=3):
        """Ends the program and everything it started."""
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, sent)
            except ProcessLookupError:
                pass
            try:
                self.child.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                continue
        # What is left of the session, if the first process ended before its children.
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Fleet:
    """The processes of a row: all end when the row does."""

    def __init__(self):
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        while self.processes:
            self.processes.pop().end()

    def start(self, *arguments, **options):
        """Starts a program; see `Process`."""
        process = Process(*arguments, **options)
        self.processes.append(process)
        return process

    def begin(self, name, command, cores, seconds, environment=None):
        """Starts a program; the function that is given back waits for its end and gives its standard output."""
        process = self.start(name, command, cores, environment=environment, stdout=subprocess.PIPE)

        def finish():
            try:
                output, _ = process.child.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                raise Failed(f"{name} did not end within {seconds} s") from None
            finally:
                self.processes.remove(process)
                process.end()
            if process.child.returncode != 0:
                raise Failed(f"{name} ended with status {process.child.returncode}")
            return output

        return finish

    def output(self, *arguments, **options):
        """Runs a program to its end and gives its standard output; see `begin`."""
        return self.begin(*arguments, **options)()

    def run(self, *arguments, **options):
        """The same as text."""
        return self.output(*arguments, **options).decode(errors="replace")
