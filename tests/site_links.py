"""Checks the links of a built site: site_links.py FOLDER. Every one leads to a file, and its anchor to an element."""

import os
import re
import sys
from html import unescape
from urllib.parse import unquote

root = sys.argv[1]
# Pages that repeat the others, and the one of the server for wrong addresses.
REPEATED = {"print.html", "404.html", "toc.html"}
pages = {}
for folder, _, names in os.walk(root):
    for name in names:
        if name.endswith(".html"):
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as file:
                pages[path] = file.read()
anchors = {path: set(re.findall(r'id="([^"]+)"', text)) for path, text in pages.items()}
count, wrong = 0, []
for path, text in pages.items():
    if os.path.basename(path) in REPEATED:
        continue
    for link in re.findall(r'(?:href|src)="([^"]+)"', text):
        if re.match(r"\w+:|//", link):
            continue
        count += 1
        file, _, anchor = unquote(unescape(link)).partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
        if not os.path.exists(target) or (anchor and target in anchors and anchor not in anchors[target]):
            wrong.append(f"{path}: {link}")
print("\n".join(wrong) or f"{len(pages)} pages, {count} links lead somewhere")
sys.exit(bool(wrong))
