"""Which worker serves which connection, as far as the kernel tells.

Each worker of the gateway waits on an epoll instance of its own. The kernel lists what each of them watches, so that the
connections of a port can be counted by worker without a word from the gateway.
"""

import os
import re
import time
from pathlib import Path

from .processes import Failed

_ESTABLISHED = "01"


def _client_sockets(port):
    """The inodes of the established connections that the port has taken."""
    found = set()
    for text in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = text.split()
        if int(fields[1].split(":")[1], 16) == port and fields[3] == _ESTABLISHED:
            found.add(fields[9])
    return found


def _watched(pid):
    """For each epoll instance of a process, the inodes of the sockets that it watches."""
    sockets, instances = {}, []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            sockets[descriptor] = target[8:-1]
        elif target == "anon_inode:[eventpoll]":
            instances.append(descriptor)
    # A runtime keeps two descriptors of one instance: what watches the same is the same.
    distinct = set()
    for descriptor in instances:
        listed = re.findall(r"^tfd:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text(), re.MULTILINE)
        distinct.add(frozenset(sockets[watched] for watched in listed if watched in sockets))
    return distinct


def spread_over_workers(process, port, connections, load):
    """How many of that many connections each worker serves, least first; they are made by the running `load`."""
    pid = process.child.pid
    while load.child.poll() is None:
        clients = _client_sockets(port)
        if len(clients) == connections:
            shares = sorted(len(watched & clients) for watched in _watched(pid))
            shares = [share for share in shares if share]
            if sum(shares) == connections:
                return shares
        time.sleep(0.02)
    raise Failed(f"the {connections} connections were never seen together")
