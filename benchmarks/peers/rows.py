"""The rows of ./dev bench peers: operations, shapes, what they cost, and the goals. Standard library only."""

import dataclasses
import math

KINDS = {"fp32": 4, "bf16": 2}


@dataclasses.dataclass(frozen=True)
class Goal:
    """`ratio` is wanted over the best peer, `peer_ratio` over the peer as users write it, `fraction` of the limit."""

    ratio: float | None = None
    peer_ratio: float | None = None
    fraction: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    operation: str
    sizes: dict
    dtype: str
    threads: int
    flops: float  # documented: a fused multiply-add is two, comparisons and exponentials are none
    read: float  # bytes that must be read
    written: float
    held: float  # bytes of the working set: they decide which level of memory bounds
    goal: Goal = Goal()
    cold: bool = False  # the caches hold nothing of it before each call; an extra, not counted in the totals

    @property
    def shape(self):
        text = " ".join(f"{name}={value}" for name, value in self.sizes.items())
        return text + " cold" if self.cold else text

    @property
    def name(self):
        return f"{self.operation} {self.shape} {self.dtype} threads={self.threads}"


def _lora_like(operation, T, r, dtype, threads, goal, n=4096, m=4096, cold=False):
    e = KINDS[dtype]
    weights = r * (n + m)
    return Row(
        operation,
        {"T": T, "r": r, "n": n, "m": m},
        dtype,
        threads,
        flops=2.0 * T * weights,
        read=e * (weights + T * n + T * m),
        written=e * T * m,
        held=e * (weights + T * n + T * m),
        goal=goal,
        cold=cold,
    )


def _lora(dtype, T, r, threads, cold=False):
    goals = {
        ("fp32", 1): Goal(2.3, 3, 0.40),
        ("fp32", 8): Goal(1.6, 2.5, 0.45),
        ("fp32", 64): Goal(1.4, 2.2, 0.65),
        ("fp32", 512): Goal(1.1, 1.5, 0.85),
        ("bf16", 1): Goal(6),
        ("bf16", 8): Goal(4),
        ("bf16", 64): Goal(1.9, None, 0.45),
        ("bf16", 512): Goal(1.4, None, 0.45),
    }
    goal = goals[dtype, T] if r == 16 else Goal()
    if cold:
        goal = Goal(2, None, 0.35) if T == 1 and dtype == "fp32" else Goal()
    return _lora_like("lora", T, r, dtype, threads, goal, cold=cold)


def _gate(T, E, k, threads):
    goal = {(64, 2): Goal(8), (4096, 8): Goal(10, None, 0.15)}.get((T, k))
    if goal is None:
        goal = {8: Goal(40, None, 0.60), 64: Goal(30, None, 0.60), 256: Goal(9, None, 0.60)}[E]
    return Row(
        "gate",
        {"T": T, "E": E, "k": k},
        "fp32",
        threads,
        flops=0,
        read=4.0 * T * E,
        written=12.0 * T * k,
        held=4.0 * T * E + 12 * T * k,
        goal=goal,
    )


def _routed(operation, T, k, E, H, threads):
    rows = 4.0 * T * k * H
    tokens = 4.0 * T * H
    if operation == "dispatch":  # as a copy of as many rows
        return Row(
            operation,
            {"T": T, "k": k, "E": E, "H": H},
            "fp32",
            threads,
            flops=0,
            read=rows,
            written=rows,
            held=rows + tokens,
            goal=Goal(1.25, 4, 0.75) if T == 4096 else Goal(),
        )
    return Row(
        operation,
        {"T": T, "k": k, "E": E, "H": H},
        "fp32",
        threads,
        flops=2.0 * T * k * H,
        read=rows,
        written=tokens,
        held=rows + tokens,
        goal=Goal(3 if T == 4096 else 2, None, 0.60),
    )


def _others(threads):
    n = m = 4096
    r, T = 16, 512
    yield Row(
        "lora_backward",
        {"T": T, "r": r, "n": n, "m": m},
        "fp32",
        threads,
        flops=2.0 * T * r * (3 * n + 2 * m),
        read=4.0 * (T * n + T * m + 3 * r * (n + m) / 2 + T * n),
        written=4.0 * (T * n + r * (n + m)),
        held=4.0 * (2 * T * n + T * m + 2 * r * (n + m)),
        goal=Goal(1.3, 2, 0.60),
    )
    yield Row(
        "merge",
        {"r": r, "n": n, "m": m},
        "fp32",
        threads,
        flops=2.0 * m * n * r,
        read=4.0 * (m * n + r * (n + m)),
        written=4.0 * m * n,
        held=4.0 * (m * n + r * (n + m)),
        goal=Goal(1.0, 15, 0.60),
    )
    norm = {"flops": 2.0 * m * n * (r + 1), "read": 4.0 * (m * n + r * (n + m)), "held": 4.0 * (m * n + r * (n + m))}
    yield Row("dora_norm", {"r": r, "n": n, "m": m}, "fp32", threads, written=4.0 * m, goal=Goal(1.1, 15, 0.65), **norm)
    T = 8
    yield Row(
        "dora_forward",
        {"T": T, "r": r, "n": n, "m": m},
        "fp32",
        threads,
        flops=norm["flops"] + 2.0 * T * r * (n + m) + 3.0 * T * m,
        read=norm["read"] + 4.0 * T * (n + 2 * m),
        written=4.0 * T * m,
        held=norm["held"] + 4.0 * T * (n + 2 * m),
        goal=Goal(None, 30),
    )
    for T in (8, 512):
        yield _lora_like("vera", T, 256, "fp32", threads, Goal(1.8, None, 0.60) if T == 8 else Goal(1.15, None, 0.85))
    b = 32
    for T in (8, 512):
        yield Row(
            "oft_rotate",
            {"T": T, "b": b, "n": n},
            "fp32",
            threads,
            flops=2.0 * T * n * b,
            read=4.0 * (T * n + n * b),
            written=4.0 * T * n,
            held=4.0 * (2 * T * n + n * b),
            goal=Goal(1.3, 5 if T == 8 else None, 0.55),
        )
    T, b, factors = 512, 4, 2
    yield Row(
        "boft_forward",
        {"T": T, "b": b, "factors": factors, "n": n, "m": m},
        "fp32",
        threads,
        flops=2.0 * T * n * b * factors + T * m,
        read=4.0 * (T * n + T * m + n * b * factors),
        written=4.0 * (T * n + T * m),
        held=4.0 * (2 * T * n + T * m + n * b * factors),
        goal=Goal(None, 200),
    )
    D, b = 128, 32
    yield Row(
        "cayley",
        {"D": D, "b": b},
        "fp32",
        threads,
        flops=8 / 3 * b**3 * D,
        read=4.0 * D * b * (b - 1) / 2,
        written=4.0 * D * b * b,
        held=4.0 * D * (b * (b - 1) / 2 + b * b),
        goal=Goal(None, 4, 0.12),
    )
    for E in (8, 64, 256):
        for T in (64, 4096):
            yield _gate(T, E, 2, threads)
    for E in (64, 256):
        yield _gate(4096, E, 8, threads)
    for operation in ("dispatch", "combine"):
        yield _routed(operation, 512, 2, 8, 1024, threads)
        yield _routed(operation, 4096, 8, 64, 1024, threads)


def rows(threads=(1, 2), every_thread_count=True, cold=True):
    """Every row: LoRA at r = 16 for all `threads`, the others for one thread, or also for all."""
    result = []
    for count in threads:
        result += [_lora(dtype, T, 16, count) for dtype in KINDS for T in (1, 8, 64, 512)]
    for count in threads if every_thread_count else threads[:1]:
        result += [_lora("fp32", T, 64, count) for T in (8, 512)]
        result += _others(count)
    if cold:
        result += [_lora(dtype, T, 16, threads[0], cold=True) for dtype in KINDS for T in (1, 8)]
    return result


LEVELS = ("L1", "L2", "L3", "DRAM")


def level_of(row, caches):
    """Which level holds the working set; `caches` in bytes, L1 and L2 of one core, L3 of all."""
    part = row.held / row.threads
    if row.cold:
        return "DRAM"
    if part <= 0.75 * caches["L1"]:
        return "L1"
    if part <= caches["L2"]:
        return "L2"
    return "L3" if row.held <= caches["L3"] else "DRAM"


def limit(row, limits, caches):
    """(microseconds that the machine needs at least, what bounds): the roofline of this run's own limits.

    limits: {"fma_flops", "bytes_per_second": {level: {"read", "update", "copy"}}} for the row's number of threads. What is read
    takes as long as reading does, and all that moves as long as the fastest of reading, updating in place and copying does.
    """
    level = level_of(row, caches)
    speeds = limits["bytes_per_second"][level]
    memory = max(row.read / speeds["read"], (row.read + row.written) / max(speeds.values())) * 1e6
    compute = row.flops / limits["fma_flops"] * 1e6
    return (compute, "FMA") if compute >= memory else (memory, level)


def reached(measured, goal):
    """None when there is no goal, else whether `measured` reaches it after rounding to the two digits that are shown."""
    if goal is None or measured is None:
        return None
    digits = 2 if goal < 10 else 0
    return round(measured, digits) >= goal


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))
