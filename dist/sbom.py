#!/usr/bin/env python3
"""Writes what the program contains: an SBOM (CycloneDX 1.5) and the licences of the dependencies.

    dist/sbom.py TARGET SBOM.json LICENSES.txt

Reads `cargo metadata` and the sources of the crates, which cargo has fetched to build the program. Fails if a
dependency has a licence that is not in ALLOWED, or comes from elsewhere than crates.io.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

# Permissive, without duties beyond naming the authors. A licence expression must hold with these alone.
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CDLA-Permissive-2.0", "ISC", "MIT", "Unicode-3.0", "Unlicense", "Zlib",
}
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def metadata(target):
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--format-version", "1",
               "--filter-platform", target]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def dependencies(meta):
    """Ids of the packages that end up in the program: not those of tests and build scripts."""
    nodes = {node["id"]: node for node in meta["resolve"]["nodes"]}
    root = meta["resolve"]["root"]
    edges, todo = {}, [root]
    while todo:
        package = todo.pop()
        if package in edges:
            continue
        edges[package] = sorted(dep["pkg"] for dep in nodes[package]["deps"]
                                if any(kind["kind"] is None for kind in dep["dep_kinds"]))
        todo.extend(edges[package])
    return root, edges


def normalized(expression):
    # Old crates write "MIT/Apache-2.0".
    return re.sub(r"\s*/\s*", " OR ", expression)


def is_allowed(expression):
    """SPDX: AND binds closer than OR; parentheses are replaced by what they come to, from the inside."""
    inner = re.search(r"\(([^()]*)\)", expression)
    if inner:
        word = "MIT" if is_allowed(inner[1]) else "not-allowed"
        return is_allowed(expression[:inner.start()] + word + expression[inner.end():])
    return any(all(name.strip() in ALLOWED for name in part.split(" AND ")) for part in expression.split(" OR "))


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksums, kind="library"):
    found = {
        "type": kind,
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
        "licenses": [{"expression": normalized(package["license"])}],
    }
    if package.get("description"):
        found["description"] = " ".join(package["description"].split())
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository"):
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def lock_checksums():
    pattern = r'name = "([^"]+)"\nversion = "([^"]+)"\nsource = "[^"]+"\nchecksum = "([0-9a-f]{64})"'
    return {(name, version): checksum for name, version, checksum in
            re.findall(pattern, Path("Cargo.lock").read_text())}


def licence_files(package):
    folder = Path(package["manifest_path"]).parent
    files = [file for file in sorted(folder.iterdir())
             if file.is_file() and re.match(r"(licen[sc]e|copying|notice|unlicense)", file.name, re.I)
             and file.suffix not in (".rs", ".toml")]
    return files


def licences(packages):
    """The licence texts, each once, with the crates that it belongs to."""
    text_of, crates_of = {}, {}
    lines = ["redis-trib contains these crates, under these licences. The texts follow.", ""]
    for package in packages:
        expression = normalized(package["license"])
        lines.append(f"{package['name']} {package['version']}: {expression}")
        for file in licence_files(package):
            text = file.read_text(errors="replace").strip().replace("\r\n", "\n")
            key = " ".join(text.split())
            text_of.setdefault(key, text)
            crates_of.setdefault(key, []).append(f"{package['name']} {package['version']}")
    for key, text in text_of.items():
        lines += ["", "=" * 100, "Licence of " + ", ".join(sorted(set(crates_of[key]))), "=" * 100, "", text]
    return "\n".join(lines) + "\n"


def main():
    target, sbom_file, licences_file = sys.argv[1:]
    meta = metadata(target)
    root, edges = dependencies(meta)
    packages = {package["id"]: package for package in meta["packages"]}
    own = packages[root]
    others = sorted((packages[found] for found in edges if found != root), key=lambda p: (p["name"], p["version"]))
    errors = []
    for package in others:
        if package["source"] != CRATES_IO:
            errors.append(f"{package['name']} comes from {package['source']}, not from crates.io")
        if not package["license"] or not is_allowed(normalized(package["license"])):
            errors.append(f"{package['name']} {package['version']}: the licence {package['license']} is not allowed")
    if errors:
        sys.exit("dist/sbom.py: " + "; ".join(errors))

    checksums = lock_checksums()
    sbom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": component(own, checksums, "application"),
            "properties": [{"name": "cargo:target", "value": target}],
        },
        "components": [component(package, checksums) for package in others],
        "dependencies": [{"ref": purl(packages[found]), "dependsOn": sorted(purl(packages[dep]) for dep in edges[found])}
                         for found in sorted(edges, key=lambda found: purl(packages[found]))],
    }
    Path(sbom_file).write_text(json.dumps(sbom, indent=2) + "\n")
    Path(licences_file).write_text(licences(others))
    print(f"{len(others)} crates in the SBOM", file=sys.stderr)


if __name__ == "__main__":
    main()
