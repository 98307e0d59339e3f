#!/usr/bin/env python3
"""Keys and clients for the benches; nothing but Python's own library.

    load.py fill PORT SLOTS KEYS BYTES   every master's lowest SLOTS slots get KEYS keys of BYTES each
    load.py plain PORT KEYS BYTES        a plain server gets KEYS keys of BYTES each
    load.py protocol FILE KEYS BYTES     FILE.0, .1, .2 get the SETs for three masters with equal shares of the slots
    load.py migrate PORT PORT KEYS CALL  bare MIGRATE between two plain servers; prints microseconds
    load.py slots PORT TARGET SLOTS CALL bare MIGRATE of every other master's lowest SLOTS slots to the one at TARGET,
                                         a connection to each, CALL keys a call; prints microseconds
    load.py floor PORT PORT...           makes a cluster of each two servers, a master and its replica, with bare commands, each
                                         as soon as it can be sent; prints the microseconds until the last one is usable
    load.py ping PORT...                 pings each port every millisecond until SIGTERM; prints what it saw
    load.py delay PORT TO...             carries PORT to TO 1 ms late, each way, until it is killed; PORT+1 to the next
    load.py client PORT SLOTS [KEYS BYTES]   GET, SET, MGET and a script on the filled keys (61 a slot, of 100 bytes) until
                                         SIGTERM; prints what it saw
    load.py steady PORT PER_SECOND [KEYS BYTES]   ten GETs to one SET of the filled keys of all slots, or PING to each
                                         master in turn, at this rate until SIGTERM; prints what it saw
"""
import binascii
import collections
import gc
import os
import queue
import random
import select
import signal
import socket
import sys
import threading
import time


def command(*words):
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


class ReplyError(Exception):
    pass


class Node:
    """One connection, RESP2."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.replies = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, *words):
        self.send(command(*words))
        return self.reply()

    def reply(self):
        line = self.replies.readline()
        if not line:
            raise ConnectionError("closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.replies.read(int(rest) + 2)[:-2]
        return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]


def tags():
    """A hash tag for every slot."""
    found, i = {}, 0
    while len(found) < 16384:
        found.setdefault(binascii.crc_hqx(b"%d" % i, 0) & 16383, b"%d" % i)
        i += 1
    return found


def masters(port):
    """[(port, [slots])]"""
    owned = {}
    for first, last, master, *_ in Node(port).ask("CLUSTER", "SLOTS"):
        owned.setdefault(master[1], []).extend(range(first, last + 1))
    return owned.items()


def values(size):
    """Values that differ and cannot be compressed: pieces of 4 MiB of random bytes. DUMP, and so MIGRATE, would shrink
    a value of one repeated byte to next to nothing."""
    pieces = random.Random(1)
    noise = pieces.randbytes((1 << 22) + size)
    return (noise[first:first + size] for first in iter(lambda: pieces.randrange(1 << 22), None))


def fill(port, slots, keys, size):
    port, slots, keys, size = int(port), int(slots), int(keys), int(size)
    tag_of, value = tags(), values(size)
    for master, owned in masters(port):
        node = Node(master)
        lowest = sorted(owned)[:slots]
        # About 256 KiB at a time.
        step = max(1, (1 << 18) // (keys * size))
        for first in range(0, len(lowest), step):
            names = [b"{%s}:%d" % (tag_of[slot], i) for slot in lowest[first:first + step] for i in range(keys)]
            node.send(b"".join(command("SET", name, next(value)) for name in names))
            for _ in names:
                if node.reply() != b"OK":
                    sys.exit("a SET failed")
        replicas = len([line for line in node.ask("INFO", "replication").split(b"\r\n") if line.startswith(b"slave")])
        # What the replicas still take in would be counted as the move's.
        if node.ask("WAIT", replicas, 60000) != replicas:
            sys.exit("the replicas did not keep up")


def plain(port, keys, size):
    node, keys, value = Node(int(port)), int(keys), values(int(size))
    node.send(b"".join(command("SET", b"key:%d" % i, next(value)) for i in range(keys)))
    for _ in range(keys):
        node.reply()
    return node


def protocol(name, keys, size):
    keys, size = int(keys), int(size)
    random.seed(1)
    files = [open(f"{name}.{i}", "wb") for i in range(3)]
    for i in range(keys):
        key = b"key:%d" % i
        slot = binascii.crc_hqx(key, 0) & 16383
        files[(slot > 5460) + (slot > 10922)].write(command("SET", key, random.randbytes(size)))


def migrate(source, target, keys, call):
    keys, call = int(keys), int(call)
    source = plain(source, keys, 100)
    began = time.perf_counter()
    for first in range(0, keys, call):
        names = [b"key:%d" % i for i in range(first, min(first + call, keys))]
        if source.ask("MIGRATE", "127.0.0.1", target, "", 0, 60000, "KEYS", *names) != b"OK":
            sys.exit("a MIGRATE failed")
    print(round((time.perf_counter() - began) * 1e6))


def slots(port, target, slots, call):
    """All slots are open and all keys known before it begins, and none is closed: nothing but MIGRATE is timed."""
    port, target, slots, call = int(port), int(target), int(slots), int(call)
    ids = {}
    for line in Node(port).ask("CLUSTER", "NODES").decode().splitlines():
        node, address = line.split()[:2]
        ids[int(address.split("@")[0].rsplit(":", 1)[1])] = node
    to, work = Node(target), []
    for master, owned in masters(port):
        if master == target:
            continue
        source, calls = Node(master), []
        for slot in sorted(owned)[:slots]:
            keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000000)
            opened = (to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[master]),
                      source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target]))
            if opened != (b"OK", b"OK"):
                sys.exit("a slot can't be opened")
            for first in range(0, len(keys), call):
                words = ("MIGRATE", "127.0.0.1", target, "", 0, 60000, "KEYS", *keys[first:first + call])
                calls.append(command(*words))
        work.append((source, calls))
    failed = []

    def send(source, calls):
        for data in calls:
            source.send(data)
            if source.reply() != b"OK":
                failed.append(source)
                return

    threads = [threading.Thread(target=send, args=one) for one in work]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit("a MIGRATE failed")
    print(round((time.perf_counter() - began) * 1e6))


def floor(*ports):
    took, failed = [], []

    def pair(first, second):
        try:
            master, replica = Node(first), Node(second)
            began = time.perf_counter()
            for reply in (master.ask("CLUSTER", "ADDSLOTS", *range(16384)), replica.ask("CLUSTER", "MEET", "127.0.0.1", first)):
                if reply != b"OK":
                    raise RuntimeError(reply)
            name = master.ask("CLUSTER", "MYID")
            while replica.ask("CLUSTER", "REPLICATE", name) != b"OK":
                time.sleep(0.01)
            while (b"cluster_state:ok" not in master.ask("CLUSTER", "INFO")
                   or b"cluster_state:ok" not in replica.ask("CLUSTER", "INFO")
                   or b"master_link_status:up" not in replica.ask("INFO", "replication")):
                time.sleep(0.01)
            took.append(time.perf_counter() - began)
        except (OSError, RuntimeError) as error:
            failed.append(error)

    ports = [int(port) for port in ports]
    threads = [threading.Thread(target=pair, args=pair_of) for pair_of in zip(ports[::2], ports[1::2])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit(f"no cluster: {failed[0]}")
    print(round(max(took) * 1e6))


def until_told(work, count):
    """Runs `work(index, stopped)` in threads until SIGTERM."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    threads = [threading.Thread(target=work, args=(i, stopped)) for i in range(count)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    stopped.wait()
    for thread in threads:
        thread.join()


def share(times, part):
    times = sorted(times)
    return round(times[min(len(times) - 1, int(len(times) * part))] * 1e6)


def ping(*ports):
    took = [[] for _ in ports]

    def work(i, stopped):
        node = Node(int(ports[i]))
        ping = command("PING")
        while not stopped.is_set():
            began = time.perf_counter()
            node.send(ping)
            node.reply()
            took[i].append(time.perf_counter() - began)
            time.sleep(0.001)

    until_told(work, len(ports))
    all_of_them = [t for times in took for t in times]
    print("count", len(all_of_them), "p50", share(all_of_them, 0.5), "p99", share(all_of_them, 0.99),
          "p999", share(all_of_them, 0.999), "max", round(max(all_of_them) * 1e6))


def delay(first, *targets):
    def carry(source, sink):
        late = queue.SimpleQueue()

        def deliver():
            while True:
                at, data = late.get()
                time.sleep(max(0, at - time.perf_counter()))
                try:
                    sink.sendall(data) if data else sink.shutdown(socket.SHUT_WR)
                except OSError:
                    return
                if not data:
                    return

        threading.Thread(target=deliver, daemon=True).start()
        data = b"-"
        while data:
            try:
                data = source.recv(1 << 18)
            except OSError:
                data = b""
            late.put((time.perf_counter() + 0.001, data))

    def serve(listener, target):
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", target))
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=carry, args=pair, daemon=True).start()

    for i, target in enumerate(targets):
        listener = socket.create_server(("127.0.0.1", int(first) + i), backlog=128)
        threading.Thread(target=serve, args=(listener, int(target)), daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


class Client:
    """A cluster client as libraries have it: knows the slots, follows MOVED and ASK, tries TRYAGAIN again."""

    def __init__(self, port):
        self.nodes, self.seen = {}, {"MOVED": 0, "ASK": 0, "TRYAGAIN": 0, "error": 0}
        self.owner = {slot: master for master, owned in masters(port) for slot in owned}

    def node(self, port):
        if port not in self.nodes:
            self.nodes[port] = Node(port)
        return self.nodes[port]

    def run(self, slot, *words):
        port, asking = self.owner[slot], False
        for _ in range(100):
            node = self.node(port)
            if asking:
                node.send(command("ASKING") + command(*words))
                node.reply()
                reply = node.reply()
            else:
                reply = node.ask(*words)
            if not isinstance(reply, ReplyError):
                return reply
            kind, *rest = str(reply).split()
            asking = kind == "ASK"
            if kind in ("MOVED", "ASK"):
                self.seen[kind] += 1
                port = int(rest[1].rsplit(":", 1)[1])
                if kind == "MOVED":
                    self.owner[slot] = port
            elif kind == "TRYAGAIN":
                self.seen[kind] += 1
                port = self.owner[slot]
                time.sleep(0.001)
            else:
                self.seen["error"] += 1
                return reply
        self.seen["error"] += 1
        return None


def client(port, slots, keys=61, size=100):
    keys, value = int(keys), next(values(int(size)))
    tag_of = tags()
    used = [(slot, tag_of[slot]) for _, owned in masters(int(port)) for slot in sorted(owned)[: int(slots)]]
    took, clients = [[] for _ in range(4)], [Client(int(port)) for _ in range(4)]

    def work(i, stopped):
        random.seed(i)
        while not stopped.is_set():
            slot, tag = random.choice(used)
            name = b"{%s}:%d" % (tag, random.randrange(keys))
            other = b"{%s}:%d" % (tag, random.randrange(keys))
            words = [
                ("GET", name),
                ("SET", name, value),
                ("MGET", name, other),
                ("EVAL", "return redis.call('GET', KEYS[1]) == redis.call('GET', KEYS[2])", 2, name, other),
            ][i]
            began = time.perf_counter()
            clients[i].run(slot, *words)
            took[i].append(time.perf_counter() - began)
            time.sleep(0.001)

    until_told(work, 4)
    all_of_them = [t for times in took for t in times]
    seen = {kind: sum(c.seen[kind] for c in clients) for kind in clients[0].seen}
    print("count", len(all_of_them), "p50", share(all_of_them, 0.5), "p999", share(all_of_them, 0.999),
          "max", round(max(all_of_them) * 1e6), *(word for pair in seen.items() for word in pair))


class Line:
    """One connection of `steady`: one command at a time, and nothing waits for its reply."""

    def __init__(self, port):
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.came = b""

    def begin(self, request, asking):
        self.request, self.skip = request, int(asking)
        self.socket.sendall((command("ASKING") if asking else b"") + request.data)

    def reply(self):
        """The reply if all of it is there: its kind, and its text or its length."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("closed")
        self.came += data
        while True:
            end = self.came.find(b"\r\n")
            if end < 0:
                return None
            kind, text, whole = self.came[:1], self.came[1:end], end + 2
            if kind == b"$" and text != b"-1":
                whole += int(text) + 2
            if len(self.came) < whole:
                return None
            self.came = self.came[whole:]
            if not self.skip:
                return kind, text
            self.skip = 0


class Request:
    def __init__(self, due, slot, data, expected):
        self.due, self.slot, self.data, self.expected, self.tries = due, slot, data, expected, 0


class Steady:
    """Commands arrive at a fixed rate, whatever the servers do, and each one's time counts from its arrival. A client
    that waits for one reply before it sends the next command would send few while a server stalls, and so would hide
    the stall. Each master has a pool of connections, as client libraries have, so that one master's stall does not
    hold up the others' commands.

    Not redis-benchmark or valkey-benchmark: they have the waiting client's fault, count a MOVED or ASK as a reply, and
    don't send the command again. This takes 10 to 20 % of a core at 2,000 commands a second; what it takes, and how late
    it was itself, is printed."""

    most_lines = 100

    def __init__(self, port, keys, size):
        self.owner = {slot: master for master, owned in masters(port) for slot in owned}
        self.ports = [int(line.split()[1].split(b"@")[0].rsplit(b":", 1)[1]) for line
                      in Node(port).ask("CLUSTER", "NODES").splitlines() if b"master" in line.split()[2]]
        self.keys, self.size = keys, size
        if keys:
            self.tag_of, self.value = tags(), values(size)
        self.idle = {p: [Line(p) for _ in range(4)] for p in self.ports}
        self.lines = dict.fromkeys(self.ports, 4)
        self.waiting = {p: collections.deque() for p in self.ports}
        self.busy, self.count = {}, 0
        self.took, self.late = [], []
        self.seen = {"MOVED": 0, "ASK": 0, "error": 0}
        self.failures = collections.Counter()

    def arrive(self, due):
        self.late.append(time.perf_counter() - due)
        self.count += 1
        if not self.keys:
            self.send(self.ports[self.count % len(self.ports)], Request(due, None, command("PING"), (b"+", b"PONG")))
            return
        slot = random.randrange(16384)
        key = b"{%s}:%d" % (self.tag_of[slot], random.randrange(self.keys))
        if self.count % 11:
            request = Request(due, slot, command("GET", key), (b"$", b"%d" % self.size))
        else:
            request = Request(due, slot, command("SET", key, next(self.value)), (b"+", b"OK"))
        self.send(self.owner[slot], request)

    def send(self, port, request, asking=False):
        if self.idle[port]:
            line = self.idle[port].pop()
        elif self.lines[port] < self.most_lines:
            line = Line(port)
            self.lines[port] += 1
        else:
            self.waiting[port].append((request, asking))
            return
        self.busy[line.socket.fileno()] = line
        line.begin(request, asking)

    def receive(self, line):
        reply = line.reply()
        if not reply:
            return
        request = line.request
        if self.waiting[line.port]:
            line.begin(*self.waiting[line.port].popleft())
        else:
            del self.busy[line.socket.fileno()]
            self.idle[line.port].append(line)
        if reply[0] == b"-":
            kind, *rest = reply[1].decode(errors="replace").split()
            if kind in ("MOVED", "ASK") and request.tries < 100:
                request.tries += 1
                self.seen[kind] += 1
                port = int(rest[1].rsplit(":", 1)[1])
                if kind == "MOVED":
                    self.owner[request.slot] = port
                self.send(port, request, kind == "ASK")
                return
        # A key that is not there, or not whole, is an error too.
        if reply != request.expected:
            self.seen["error"] += 1
            self.failures[reply[1][:80]] += 1
        self.took.append(time.perf_counter() - request.due)

    def wait(self, until):
        """Takes what comes until then. `select` wakes up within microseconds; epoll's timeouts are milliseconds."""
        ready, _, _ = select.select(list(self.busy), [], [], max(0, until - time.perf_counter()))
        for descriptor in ready:
            self.receive(self.busy[descriptor])


def steady(port, per_second, keys=0, size=0):
    random.seed(1)
    clients, gap, stopped = Steady(int(port), int(keys), int(size)), 1 / int(per_second), []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(time.perf_counter()))
    gc.disable()
    # Clients are elsewhere as a rule: what they see should be the servers' delay, not their own wait for one of the cores
    # that servers and tools fill here.
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        pass
    before, due = time.process_time(), time.perf_counter()
    print("ready", flush=True)
    # What was due before the end is sent, however late it is: a client that got no core would hide a stall.
    while not stopped or due < stopped[0]:
        while due <= time.perf_counter():
            clients.arrive(due)
            due += gap
        clients.wait(due)
    # What has arrived is answered before the end: it may be what waits longest.
    patience = time.perf_counter() + 60
    while clients.busy and time.perf_counter() < patience:
        clients.wait(time.perf_counter() + 1)
    if clients.busy:
        sys.exit(f"{len(clients.busy)} commands were not answered within 60 s")
    for failure, times in clients.failures.most_common(5):
        print(f"{times} times instead of a reply: {failure.decode(errors='replace')}", file=sys.stderr)
    took = clients.took
    print("count", len(took), "p50", share(took, 0.5), "p99", share(took, 0.99), "p999", share(took, 0.999),
          "max", round(max(took) * 1e6), *(word for pair in clients.seen.items() for word in pair),
          "late", share(clients.late, 0.999), "cpu", round((time.process_time() - before) * 1e6))


if __name__ == "__main__":
    what = {"fill": fill, "plain": plain, "protocol": protocol, "migrate": migrate, "slots": slots,
            "floor": floor, "ping": ping, "delay": delay, "client": client, "steady": steady}
    what[sys.argv[1]](*sys.argv[2:])
