"""What compiled kernels are: verb x scalar x architecture with instruction counts, registers, stack and shared memory.

kernels.py --cuobjdump FILE --include DIR --architectures 80;90 --table FILE --object SCALAR OBJECT ...
Fails when a body of include/graft has no kernel for a scalar and an architecture, when one is too short to do anything, and
when one spills or keeps arrays in local memory beyond what is allowed.
"""
import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys

LEAST_INSTRUCTIONS = 24  # a kernel that loads, computes and stores has more; an empty one has a handful
# Local memory of a thread, in bytes: the runtime's fp64 sine and cosine reduce large arguments with a table there.
LOCAL_MEMORY = {"pair_factors_body": 40, "pair_factors_backward_body": 40}

parser = argparse.ArgumentParser()
parser.add_argument("--cuobjdump", required=True)
parser.add_argument("--include", type=pathlib.Path, required=True)
parser.add_argument("--architectures", required=True)
parser.add_argument("--table", type=pathlib.Path, required=True)
parser.add_argument("--object", nargs="+", action="append", required=True)
parser.add_argument("--stack", type=int, default=0, help="bytes of local memory that every kernel may have")
options = parser.parse_args()
architectures = options.architectures.split(";")
environment = dict(os.environ)
environment["PATH"] = os.path.dirname(options.cuobjdump) + os.pathsep + environment["PATH"]


def dump(what, path):
    return subprocess.run([options.cuobjdump, what, path], env=environment, capture_output=True, text=True, check=True).stdout


def body_of(symbol):
    """The innermost functor of graft::detail that a kernel runs: ..._body in its mangled name."""
    for match in re.finditer(r"\d+", symbol):
        name = symbol[match.end() : match.end() + int(match[0])]
        if name.endswith("_body") and name.isidentifier():
            return name
    return None


# What must be there: every functor named ..._body that is a body (one that has a verb).
expected = set()
for header in sorted((options.include / "graft").rglob("*.hpp")):
    for name in re.findall(r"struct (\w+_body) (?:: \w+ )?\{\n  static constexpr std::string_view verb", header.read_text()):
        expected.add(name)

counts = collections.defaultdict(list)  # (body, scalar, architecture) -> instructions of its kernels
usage = collections.defaultdict(lambda: [0, 0, 0])  # body -> most registers, stack, static shared memory
wrong = []
kernels = 0
for scalar, *paths in options.object:
    for path in paths:
        architecture = body = None
        for line in dump("-sass", path).splitlines():
            if match := re.search(r"arch = sm_(\d+)", line):
                architecture = match[1]
            elif match := re.search(r"Function : (\S+)", line):
                body = body_of(match[1])
                if body:
                    counts[body, scalar, architecture].append(0)
                    kernels += 1
            elif body and re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+\S", line):
                counts[body, scalar, architecture][-1] += 1
        body = None
        for line in dump("-res-usage", path).splitlines():
            if match := re.search(r"Function (\S+?):?$", line):
                body = body_of(match[1])
            elif body and (match := re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line)):
                registers, stack, shared, local = map(int, match.groups())
                usage[body] = [max(usage[body][0], registers), max(usage[body][1], stack + local), max(usage[body][2], shared)]

scalars = list(dict.fromkeys(scalar for scalar, *_ in options.object))
head = ["body", "registers", "stack"] + [f"{scalar} sm_{a}" for scalar in scalars for a in architectures]
rows = []
for body in sorted(expected | {key[0] for key in counts}):
    row = [body, str(usage[body][0]), str(usage[body][1])]
    if usage[body][1] > options.stack + LOCAL_MEMORY.get(body, 0):
        wrong.append(f"{body} keeps {usage[body][1]} bytes in local memory")
    for scalar in scalars:
        for architecture in architectures:
            some = counts.get((body, scalar, architecture), [])
            if not some:
                wrong.append(f"{body} has no kernel for {scalar} on sm_{architecture}")
                row.append("-")
                continue
            if min(some) < LEAST_INSTRUCTIONS:
                wrong.append(f"{body} has a kernel of {min(some)} instructions for {scalar} on sm_{architecture}")
            row.append(str(some[0]) if len(some) == 1 else f"{min(some)}-{max(some)} ({len(some)})")
    rows.append(row)

widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
lines = ["  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))
         for row in [head, *rows]]
lines.append(f"{len(rows)} bodies, {kernels} kernels: instructions (least-most, how many kernels), most registers of a thread, "
             f"most bytes of local memory; {len(wrong)} wrong")
options.table.write_text("\n".join(lines) + "\n")
print("\n".join(lines))
for sentence in wrong:
    print("kernels: " + sentence)
sys.exit(1 if wrong else 0)
