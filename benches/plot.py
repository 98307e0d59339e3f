#!/usr/bin/env python3
"""Tables and a picture of what benches/shards.sh measured; nothing but Python's own library.

    plot.py tables FILE      Markdown tables of medians, and which settings of others lie outside our curve
    plot.py goals FILE       rows for the table of run.sh
    plot.py svg FILE         the picture on standard output: MB/s and the clients' 99.9th percentile
    plot.py page FILE PAGE   the tables go into the page, between the comments that name this program
"""
import contextlib
import csv
import io
import math
import statistics
import sys
from html import escape

OURS = "redis-trib"


def read(name):
    """What the comments say, and the measurements: numbers where there are numbers."""
    with open(name, encoding="utf-8") as file:
        lines = file.read().splitlines()
    notes = [line[2:] for line in lines if line.startswith("#")]
    rows = list(csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t"))
    for row in rows:
        for name in row:
            if name == "seconds" or name.endswith(("_s", "_us")) or name in ("commands", "errors", "redirected"):
                row[name] = float(row[name])
    return notes, rows


class Group:
    """The runs of one tool with one setting: medians of what they measured."""

    def __init__(self, rows):
        self.rows = rows
        for name in ("servers", "tool", "way", "setting", "clients", "direction"):
            setattr(self, name, rows[0][name])
        self.runs = len(rows)

    def all(self, name):
        return sorted(row[name] for row in self.rows)

    def __getattr__(self, name):
        return statistics.median(self.all(name))

    @property
    def label(self):
        """The settings as a reader would name them: without what only says key by key or atomic."""
        words = self.setting.replace("--strategy keys", "").replace("--cluster-use-atomic-slot-migration", "").strip()
        return "default" if words in ("", "default") else words

    def spread(self, name, unit=1.0):
        values = self.all(name)
        if len(values) == 1:
            return number(values[0] / unit)
        return f"{number(getattr(self, name) / unit)} ({number(values[0] / unit)}–{number(values[-1] / unit)})"


def groups(rows):
    found = {}
    for row in rows:
        key = tuple(row[name] for name in ("servers", "tool", "way", "setting", "clients", "direction"))
        found.setdefault(key, []).append(row)
    return [Group(one) for one in found.values()]


def number(value):
    """Three figures, or all before the point."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def pick(found, **wanted):
    return [g for g in found if all(getattr(g, name) == value for name, value in wanted.items())]


DIRECTIONS = {"out": "3 → 4", "back": "4 → 3"}
CLIENTS = {"none": "no clients", "load": "clients"}
WAYS = {"keys": "key by key", "atomic": "atomic"}


def servers_name(servers):
    product, version = servers.split("-")
    return f"{product.capitalize()} {version}"


def tables(name):
    notes, rows = read(name)
    found = groups(rows)
    runs = sorted({g.runs for g in found})
    versions, machine, sizes = notes
    print(f"{machine}. {versions}. {sizes}.\n")
    print(f"Medians (least–most, n={'–'.join(map(str, sorted({runs[0], runs[-1]})))}).\n")

    # As the Valkey project published it.
    columns = [(d, c) for c in CLIENTS for d in DIRECTIONS if pick(found, direction=d, clients=c)]
    print("| servers | tool | " + " | ".join(f"{DIRECTIONS[d]}, {CLIENTS[c]}" for d, c in columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    seen = []
    for g in found:
        one = {"servers": g.servers, "tool": g.tool, "way": g.way, "setting": g.setting}
        if g.tool == "idle" or g.label != "default" or one in seen:
            continue
        seen.append(one)
        cells = [pick(found, **one, direction=d, clients=c) for d, c in columns]
        cells = [f"{cell[0].spread('seconds')} s" if cell else "" for cell in cells]
        print(f"| {servers_name(g.servers)} | {g.tool}, {WAYS[g.way]} | " + " | ".join(cells) + " |")

    for clients in sorted(CLIENTS):
        for direction in ("out", "back"):
            if pick(found, clients=clients, direction=direction):
                latencies(found, clients, direction)

    print()
    for line in outside(found):
        print(f"- {line}")
    late = max(g.clients_late_p999_us for g in found) / 1e3
    share = max(g.clients_cpu_s / g.seconds for g in found)
    print(f"\nThe clients took at most {share * 100:.0f} % of a core, and were late themselves by at most {number(late)} ms "
          "(99.9th percentile, the largest median).")


def latencies(found, clients, direction):
    whom = "the clients' commands" if clients == "load" else "PING"
    print(f"\n{DIRECTIONS[direction]}, {CLIENTS[clients]}: latencies of {whom} in ms, processor time in s.\n")
    print("| servers | tool and settings | MB/s | p50 | p99 | p99.9 | longest | errors | CPU, tool | CPU, servers |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for g in sorted(pick(found, clients=clients), key=lambda g: (g.servers, g.way, g.tool)):
        if g.tool == "idle":
            what, speed = "nothing moves, 3 s", ""
        elif g.direction == direction:
            what, speed = f"{g.tool}, {WAYS[g.way]}", g.spread("mb_s")
            if g.label != "default":
                what += f", `{g.label}`"
        else:
            continue
        cells = [servers_name(g.servers), what, speed, number(g.p50_us / 1e3), number(g.p99_us / 1e3), g.spread("p999_us", 1e3),
                 g.spread("longest_us", 1e3), f"{sum(g.all('errors')):.0f}", f"{g.tool_cpu_s:.2f}", f"{g.servers_cpu_s:.2f}"]
        print(f"| {' | '.join(cells)} |")


def page(name, path):
    first, last = "<!-- benches/plot.py: begin -->", "<!-- benches/plot.py: end -->"
    with open(path, encoding="utf-8") as file:
        before, _, rest = file.read().partition(first)
    _, found, after = rest.partition(last)
    if not found:
        sys.exit(f"{path} has no {first} … {last}")
    made = io.StringIO()
    with contextlib.redirect_stdout(made):
        tables(name)
    picture = ("![Throughput against the 99.9th percentile of the clients' commands](pictures/shards.svg)\n\n"
               "[Every measurement](pictures/shards.tsv), as tab-separated values.")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{first}\n\n{picture}\n\n{made.getvalue()}\n{last}{after}")


def within(peer, ours):
    """Those of ours that are at least as fast at the same 99.9th percentile or a lower one."""
    return [g for g in ours if g.mb_s >= peer.mb_s and g.p999_us <= peer.p999_us]


def plotted(found):
    """Three to four shards with clients, or without where that is all there is."""
    for clients in ("load", "none"):
        points = [g for g in pick(found, clients=clients, direction="out")]
        if points:
            return points
    return []


def outside(found):
    """A sentence for each setting of another tool that lies outside our curve, and one for all others."""
    points, inside = plotted(found), 0
    for peer in points:
        if peer.tool == OURS:
            continue
        ours = pick(points, tool=OURS, servers=peer.servers, way=peer.way)
        if within(peer, ours):
            inside += 1
            continue
        name = f"{peer.tool}, {WAYS[peer.way]}, {peer.label}, on {servers_name(peer.servers)}"
        sentence = f"Outside our curve: {name}, with {number(peer.mb_s)} MB/s at a p99.9 of {number(peer.p999_us / 1e3)} ms."
        slower = [g for g in ours if g.p999_us <= peer.p999_us]
        later = [g for g in ours if g.mb_s >= peer.mb_s]
        if slower:
            best = max(slower, key=lambda g: g.mb_s)
            sentence += f" At that p99.9 or less, ours is {number(best.mb_s)} MB/s ({best.label})."
        elif ours:
            best = min(ours, key=lambda g: g.p999_us)
            sentence += f" None of ours is that low: the lowest is {number(best.p999_us / 1e3)} ms ({best.label})."
        if later:
            best = min(later, key=lambda g: g.p999_us)
            sentence += f" At that speed or more, ours is {number(best.p999_us / 1e3)} ms ({best.label})."
        yield sentence
    yield (f"Settings of others for which one of ours is at least as fast at the same p99.9 or a lower one: {inside}.")


def goals(name):
    """what|ours|theirs|ratio|target, as `row` of lib.sh keeps them."""
    notes, rows = read(name)
    found = groups(rows)
    size = notes[2].split(";")[0]

    def line(what, ours, theirs, ratio, goal, met):
        print(f"{what}|{ours}|{theirs}|{ratio:.2f}|{goal}: {'met' if met else 'missed'}")

    for servers, way, peer, least in (("redis-7.0", "keys", "redis-cli 7.0", 3), ("valkey-9.1", "atomic", "valkey-cli 9.1", 1.5)):
        for clients in CLIENTS:
            same = dict(servers=servers, way=way, clients=clients, direction="out")
            ours = [g for g in pick(found, tool=OURS, **same) if g.label == "default"]
            theirs = [g for g in pick(found, tool=peer, **same) if g.label == "default"]
            if not ours or not theirs:
                continue
            ours, theirs = ours[0], theirs[0]
            what = f"3 → 4 shards, {size}, {servers}, {CLIENTS[clients]}; beside {peer}"
            ratio = ours.seconds / theirs.seconds
            # The goals of key by key are speeds; those of tasks include what clients feel.
            line(f"{what}, s", ours.spread("seconds"), theirs.spread("seconds"), ratio, f"≤ {1 / least:.2f}", ratio <= 1 / least)
            if way == "atomic":
                for of, title in (("p99_us", "p99"), ("longest_us", "the longest stall")):
                    ratio = getattr(ours, of) / getattr(theirs, of)
                    line(f"…{title}, ms", ours.spread(of, 1e3), theirs.spread(of, 1e3), ratio, "≤ 1.00", ratio <= 1)
    for peer in plotted(found):
        if peer.tool != "redis-cli 7.0" or peer.label != "default":
            continue
        ours = [g for g in pick(plotted(found), tool=OURS, servers=peer.servers, way=peer.way) if g.p999_us <= peer.p999_us]
        what = "…the fastest of ours whose p99.9 is no higher than redis-cli's, MB/s"
        if ours:
            best = max(ours, key=lambda g: g.mb_s)
            ratio = best.mb_s / peer.mb_s
            line(f"{what} ({best.label})", best.spread("mb_s"), peer.spread("mb_s"), ratio, "≥ 3.00", ratio >= 3)
        else:
            print(f"{what}|none|{peer.spread('mb_s')}||≥ 3.00: missed")


# ---- the picture

WIDTH, HEIGHT, TOP, BOTTOM, PANEL = 1000, 500, 60, 410, 400
LEFT = {"keys": 65, "atomic": 560}
SHAPES = {OURS: "circle", "redis-cli": "square", "valkey-cli": "diamond"}
# Classes, and no CSS variables, which not every viewer of SVG knows.
LIGHT = {"back": "#ffffff", "ink": "#1f2328", "weak": "#59636e", "grid": "#d1d9e0",
         "redis-trib": "#0969da", "redis-cli": "#bc4c00", "valkey-cli": "#8250df"}
DARK = {"back": "#0d1117", "ink": "#e6edf3", "weak": "#9198a1", "grid": "#2a313c",
        "redis-trib": "#58a6ff", "redis-cli": "#f0883e", "valkey-cli": "#d2a8ff"}


def style(colours):
    rules = [f".back, .open {{ fill: {colours['back']}; }}", f".grid {{ stroke: {colours['grid']}; }} .leader {{ stroke: {colours['weak']}; }}"]
    rules += [f"text.{name} {{ fill: {colours[name]}; }}" for name in ("ink", "weak")]
    # Labels stand out from the lines behind them.
    rules.append(f".label {{ paint-order: stroke; stroke: {colours['back']}; stroke-width: 4px; stroke-linejoin: round; }}")
    for name in SHAPES:
        rules.insert(0, f".{name} {{ stroke: {colours[name]}; }} .full.{name}, text.{name} {{ fill: {colours[name]}; }}")
    return " ".join(rules)


def text(x, y, words, kind="ink", anchor="start", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def symbol(x, y, who, full):
    kind = f'class="{who} {"full" if full else "open"}" stroke-width="2"'
    if SHAPES[who] == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" {kind}/>'
    if SHAPES[who] == "square":
        return f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" {kind}/>'
    return f'<path d="M{x:.1f},{y - 7:.1f} l7,7 l-7,7 l-7,-7 z" {kind}/>'


def scale_ticks(most):
    """About five round steps from zero to above the most."""
    step = next(m * 10 ** e for e in range(-2, 7) for m in (1, 2, 2.5, 5) if most * 1.12 / (m * 10 ** e) <= 5.5)
    return [i * step for i in range(math.ceil(most * 1.12 / step) + 1)]


def log_ticks(least, most):
    """1, 2, 5, 10, 20 … from below the least to above the most."""
    steps = [m * 10.0 ** e for e in range(-3, 7) for m in (1, 2, 5)]
    first = max(t for t in steps if t <= least * 0.9)
    last = min(t for t in steps if t >= most * 1.1)
    return [t for t in steps if first <= t <= last]


def overlap(box, others):
    return sum(max(0, min(box[2], t[2]) - max(box[0], t[0])) * max(0, min(box[3], t[3]) - max(box[1], t[1])) for t in others)


class Labels:
    """Where the labels of one panel go: beside their points, over nothing else if that is possible."""

    def __init__(self, left, points, lines):
        self.left, self.taken = left, [(x - 8, y - 8, x + 8, y + 8) for x, y in points]
        self.lines = [(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1) for a, b, c, d in lines]

    def put(self, x, y, words, kind):
        wide = 6.7 * len(words)
        places = [(x + 11, y + 4, "start"), (x - 11, y + 4, "end"), (x, y - 12, "middle"), (x, y + 22, "middle")]
        places += [(x + dx, y + dy, anchor) for far in (18, 32, 46, 60) for dy in (-far, far + 8)
                   for dx, anchor in ((8, "start"), (-8, "end"), (0, "middle"))]
        best = None
        for px, py, anchor in places:
            begin = px - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
            box = (begin, py - 11, begin + wide, py + 3)
            over = 3 * overlap(box, self.taken) + overlap(box, self.lines) / 2 + abs(py - y)
            out = max(0, self.left - box[0]) + max(0, box[2] - self.left - PANEL - 25) + max(0, TOP - box[1]) + max(0, box[3] - BOTTOM)
            cost = over + 100 * out
            if best is None or cost < best[0]:
                best = (cost, px, py, anchor, box)
        _, px, py, anchor, box = best
        self.taken.append(box)
        line = ""
        if abs(py - y) > 23:
            line = f'<path d="M{x:.1f},{y:.1f} L{px:.1f},{py + (4 if py < y else -11):.1f}" class="leader"/>'
        return line + text(px, py, words, f"{kind} label", anchor)


def panel(way, points):
    left = LEFT[way]
    right = left + PANEL
    speeds = scale_ticks(max(g.mb_s for g in points))
    times = log_ticks(min(g.p999_us for g in points) / 1e3, max(g.p999_us for g in points) / 1e3)

    def at(speed, time):
        part = (math.log(time) - math.log(times[0])) / (math.log(times[-1]) - math.log(times[0]))
        return left + part * PANEL, BOTTOM - speed / speeds[-1] * (BOTTOM - TOP)

    out = [text(left, TOP - 18, {"keys": "Key by key", "atomic": "Atomic slot migration"}[way], more=' font-weight="bold" font-size="14"')]
    for speed in speeds:
        y = at(speed, times[0])[1]
        out.append(f'<path d="M{left},{y:.1f} H{right}" class="grid"/>')
        out.append(text(left - 8, y + 4, f"{speed:g}", "weak", "end"))
    for time in times:
        x = at(0, time)[0]
        out.append(f'<path d="M{x:.1f},{TOP} V{BOTTOM}" class="grid"/>')
        out.append(text(x, BOTTOM + 18, f"{time:g}", "weak", "middle"))
    middle = (TOP + BOTTOM) / 2
    out.append(text(left - 50, middle, "moved, MB/s", "ink", "middle", f' transform="rotate(-90 {left - 50} {middle})"'))
    out.append(text((left + right) / 2, BOTTOM + 38, "99.9th percentile of the clients' commands, ms", "ink", "middle"))

    # What ours reaches at most, if the clients are to see no more than that.
    lines = []
    for servers in sorted({g.servers for g in points}):
        corners, fastest = [], 0
        for g in sorted(pick(points, tool=OURS, servers=servers), key=lambda g: g.p999_us):
            if g.mb_s > fastest:
                fastest = g.mb_s
                x, y = at(g.mb_s, g.p999_us / 1e3)
                corners += [(x, corners[-1][1] if corners else BOTTOM), (x, y)]
        if corners:
            corners.append((right, corners[-1][1]))
            lines += [(*a, *b) for a, b in zip(corners, corners[1:])]
            dashes = "" if servers.startswith("redis") else ' stroke-dasharray="5 4"'
            path = " L".join(f"{x:.1f},{y:.1f}" for x, y in corners)
            out.append(f'<path d="M{path}" class="{OURS}" fill="none" stroke-width="1.2" opacity="0.6"{dashes}/>')

    places = [(g, *at(g.mb_s, g.p999_us / 1e3)) for g in points]
    for g, x, y in places:
        out.append(symbol(x, y, g.tool.split()[0], g.servers.startswith("redis")))
    labels = Labels(left, [(x, y) for _, x, y in places], lines)
    for g, x, y in sorted(places, key=lambda place: place[2]):
        who = g.tool.split()[0]
        words = g.tool if g.label == "default" else g.label
        out.append(labels.put(x, y, words, who))
    return out


def svg(name):
    notes, rows = read(name)
    points = [g for g in plotted(groups(rows)) if g.tool != "idle"]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif" font-size="12">',
        f"<title>Three shards become four: MB/s and what clients see, {escape(notes[2])}</title>",
        f"<style>{style(LIGHT)} @media (prefers-color-scheme: dark) {{ {style(DARK)} }}</style>",
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
    ]
    for way in LEFT:
        if pick(points, way=way):
            out += panel(way, pick(points, way=way))
    x, y = LEFT["keys"], HEIGHT - 22
    versions = {kind: ", ".join(sorted({servers_name(g.servers) for g in points if g.servers.startswith(kind)}))
                for kind in ("redis", "valkey")}
    for who in SHAPES:
        if any(g.tool.split()[0] == who for g in points):
            out += [symbol(x, y, who, True), text(x + 12, y + 4, who)]
            x += 34 + 7 * len(who)
    for kind, words in (("redis", "filled, solid line: "), ("valkey", "hollow, dashed line: ")):
        if versions[kind]:
            words += versions[kind]
            out.append(text(x + 10, y + 4, words))
            x += 24 + 6.0 * len(words)
    out.append(text(LEFT["atomic"] + PANEL, TOP - 18, "lines: the most that redis-trib reaches", "weak", "end"))
    print("\n".join([*out, "</svg>"]))


if __name__ == "__main__":
    {"tables": tables, "goals": goals, "svg": svg, "page": page}[sys.argv[1]](*sys.argv[2:])
