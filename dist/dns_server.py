#!/usr/bin/env python3
"""A DNS server for tests: every name has COUNT IPv4 addresses, from 127.1.0.1 on.

    dist/dns_server.py ADDRESS COUNT

Answers over UDP are cut to 512 bytes, as servers must; TCP has all.
"""

import socketserver
import struct
import sys
import threading

COUNT = int(sys.argv[2])


def answer(asked, limit):
    kind = struct.unpack(">H", asked[asked.index(b"\0", 12) + 1:][:2])[0]
    question = asked[12:asked.index(b"\0", 12) + 5]
    records = [b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x7f\x01" + struct.pack(">H", number + 1)
               for number in range(COUNT if kind == 1 else 0)]
    fits = records[:(limit - 12 - len(question)) // 16]
    flags = 0x8180 | (0x0200 if len(fits) < len(records) else 0)
    return asked[:2] + struct.pack(">HHHHH", flags, 1, len(fits), 0, 0) + question + b"".join(fits)


class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        asked, socket = self.request
        socket.sendto(answer(asked, 512), self.client_address)


class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        asked = self.rfile.read(struct.unpack(">H", self.rfile.read(2))[0])
        reply = answer(asked, 65535)
        self.wfile.write(struct.pack(">H", len(reply)) + reply)


socketserver.ThreadingTCPServer.allow_reuse_address = True
where = (sys.argv[1], 53)
udp = socketserver.ThreadingUDPServer(where, Udp)
tcp = socketserver.ThreadingTCPServer(where, Tcp)
threading.Thread(target=udp.serve_forever, daemon=True).start()
print("ready", flush=True)
tcp.serve_forever()
