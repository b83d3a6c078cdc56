"""What compiled kernels are: verb x scalar x architecture with instruction counts, registers, stack and shared memory.

kernels.py --cuobjdump FILE --include DIR --architectures 80;90 --table FILE --object SCALAR OBJECT ...
Fails when a functor of include/graft that names a verb has no kernel for a scalar and an architecture, when one is too short to do anything, and
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


# What must be there: every functor that names its verb, or one of two that a bool among its template parameters chooses.
functors = {}  # name -> its verbs; two: for false and for true
for header in sorted((options.include / "graft").rglob("*.hpp")):
    text = header.read_text()
    for name, value in re.findall(r"struct (\w+) (?:: [^{]+)?\{\n(?:  using [^\n]+\n)*  static constexpr std::string_view verb =\s+([^;]+);", text):
        words = re.findall(r'"(\w+)"', value)
        if len(words) == 1:
            functors[name] = words
        elif len(words) == 2:
            chooses_bool = re.match(r"[A-Z]\w+ \?", value) is not None
            functors[name] = words[::-1] if chooses_bool else [", ".join(words)]


def kernel_of(symbol):
    """(functor, verb) of the innermost functor that names a verb, in a mangled name."""
    found = None
    for match in re.finditer(r"\d+", symbol):
        name = symbol[match.end() : match.end() + int(match[0])]
        if name in functors:
            found = name, symbol[match.end() + int(match[0]) :]
    if found is None:
        return None
    name, rest = found
    verbs = functors[name]
    which = re.search(r"Lb([01])E", rest)
    return name, verbs[0] if len(verbs) == 1 or not which else verbs[int(which[1])]


expected = {(name, verb) for name, verbs in functors.items() for verb in verbs}

counts = collections.defaultdict(list)  # (functor and verb, scalar, architecture) -> instructions of its kernels
usage = collections.defaultdict(lambda: [0, 0, 0])  # functor and verb -> most registers, stack, static shared memory
wrong = []
kernels = 0
for scalar, *paths in options.object:
    for path in paths:
        architecture = body = None
        for line in dump("-sass", path).splitlines():
            if match := re.search(r"arch = sm_(\d+)", line):
                architecture = match[1]
            elif match := re.search(r"Function : (\S+)", line):
                body = kernel_of(match[1])
                if body:
                    counts[body, scalar, architecture].append(0)
                    kernels += 1
            elif body and re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+\S", line):
                counts[body, scalar, architecture][-1] += 1
        body = None
        for line in dump("-res-usage", path).splitlines():
            if match := re.search(r"Function (\S+?):?$", line):
                body = kernel_of(match[1])
            elif body and (match := re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line)):
                registers, stack, shared, local = map(int, match.groups())
                usage[body] = [max(usage[body][0], registers), max(usage[body][1], stack + local), max(usage[body][2], shared)]

scalars = list(dict.fromkeys(scalar for scalar, *_ in options.object))
head = ["verb", "functor", "registers", "local", "shared"] + [f"{scalar} sm_{a}" for scalar in scalars for a in architectures]
rows = []
for key in sorted(expected | {key[0] for key in counts}, key=lambda key: key[::-1]):
    functor, verb = key
    registers, local, shared = usage[key]
    row = [verb, functor, str(registers), str(local), str(shared)]
    if local > options.stack + LOCAL_MEMORY.get(functor, 0):
        wrong.append(f"{functor} keeps {local} bytes in local memory")
    for scalar in scalars:
        for architecture in architectures:
            some = counts.get((key, scalar, architecture), [])
            if not some:
                wrong.append(f"{verb} ({functor}) has no kernel for {scalar} on sm_{architecture}")
                row.append("-")
                continue
            if min(some) < LEAST_INSTRUCTIONS:
                wrong.append(f"{verb} ({functor}) has a kernel of {min(some)} instructions for {scalar} on sm_{architecture}")
            if len(some) < verb.count(",") + 1:
                wrong.append(f"{functor} has {len(some)} kernel for {scalar} on sm_{architecture}, but serves {verb}")
            row.append(str(some[0]) if len(some) == 1 else f"{min(some)}-{max(some)} ({len(some)})")
    rows.append(row)

widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
lines = ["  ".join(cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))
         for row in [head, *rows]]
lines.append(f"{len(rows)} functors of verbs, {kernels} kernels: instructions (least-most, how many kernels), most registers of a thread, "
             f"most bytes of local memory, of static shared memory; {len(wrong)} wrong")
options.table.write_text("\n".join(lines) + "\n")
print("\n".join(lines))
for sentence in wrong:
    print("kernels: " + sentence)
sys.exit(1 if wrong else 0)
