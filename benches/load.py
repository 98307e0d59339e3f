#!/usr/bin/env python3
"""Keys and clients for the benches; nothing but Python's own library.

    load.py fill PORT SLOTS KEYS BYTES   every master's lowest SLOTS slots get KEYS keys of BYTES each
    load.py plain PORT KEYS BYTES        a plain server gets KEYS keys of BYTES each
    load.py protocol FILE KEYS BYTES     FILE.0, .1, .2 get the SETs for three masters with equal shares of the slots
    load.py migrate PORT PORT KEYS CALL  bare MIGRATE between two plain servers; prints microseconds
    load.py slots PORT TARGET SLOTS CALL bare MIGRATE of every other master's lowest SLOTS slots to the one at TARGET,
                                         a connection to each, CALL keys a call; prints microseconds
    load.py ping PORT...                 pings each port every millisecond until SIGTERM; prints what it saw
    load.py delay PORT TO...             carries PORT to TO 1 ms late, each way, until it is killed; PORT+1 to the next
    load.py client PORT SLOTS [KEYS BYTES]   GET, SET, MGET and a script on the filled keys (61 a slot, of 100 bytes) until
                                         SIGTERM; prints what it saw
"""
import binascii
import queue
import random
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


def fill(port, slots, keys, size):
    port, slots, keys, size = int(port), int(slots), int(keys), int(size)
    tag_of, value = tags(), b"v" * size
    for master, owned in masters(port):
        node = Node(master)
        for slot in sorted(owned)[:slots]:
            node.send(b"".join(command("SET", b"{%s}:%d" % (tag_of[slot], i), value) for i in range(keys)))
            for _ in range(keys):
                if node.reply() != b"OK":
                    sys.exit("a SET failed")
        replicas = len([line for line in node.ask("INFO", "replication").split(b"\r\n") if line.startswith(b"slave")])
        # What the replicas still take in would be counted as the move's.
        if node.ask("WAIT", replicas, 60000) != replicas:
            sys.exit("the replicas did not keep up")


def plain(port, keys, size):
    node, keys, size = Node(int(port)), int(keys), int(size)
    node.send(b"".join(command("SET", b"key:%d" % i, b"v" * size) for i in range(keys)))
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
    keys, value = int(keys), b"w" * int(size)
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


if __name__ == "__main__":
    what = {"fill": fill, "plain": plain, "protocol": protocol, "migrate": migrate, "slots": slots,
            "ping": ping, "delay": delay, "client": client}
    what[sys.argv[1]](*sys.argv[2:])
