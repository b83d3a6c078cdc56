"""How ./dev bench peers samples. Standard library only.

Every round takes one sample of each candidate, in shuffled order. A sample is so many calls that it lasts 300 us at least,
after one that is not timed (the weights have just been used). It counts only if no thread of the process was made to leave a
processor meanwhile; one that lasts whole seconds may be interrupted five times in each, which costs some per cent. Ratios are
taken inside a round.
"""

import dataclasses
import gc
import random
import resource
import time

LEAST_SAMPLE_US = 300.0
LEAST_CLEAN = 4
SLOW_US = 20e3  # not warmed before each sample
ROUND_US = 60e3  # a candidate that takes longer than this is sampled in some rounds only


@dataclasses.dataclass
class Candidate:
    name: str
    column: str  # ours, peer (as users write it), best (of PyTorch), other (libraries), extra (ours in another form)
    call: object  # call(count): count times
    result: object  # result(): what one call computed, for the check


@dataclasses.dataclass
class Sample:
    us: float
    switches: int  # involuntary context switches of the process during it, beyond five in each whole second


def quantile(values, q):
    """Linear between order statistics."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def clean(samples):
    """Times of the samples that count; a sample may be None."""
    return [s.us for s in samples if s is not None and s.switches == 0]


def summary(samples):
    times = clean(samples)
    if len(times) < LEAST_CLEAN:
        return {"q10_us": None, "median_us": None, "clean": len(times), "taken": sum(s is not None for s in samples)}
    return {
        "q10_us": quantile(times, 0.1),
        "median_us": quantile(times, 0.5),
        "clean": len(times),
        "taken": sum(s is not None for s in samples),
    }


def ratios(ours, theirs):
    """theirs / ours of every round in which both are clean."""
    return [b.us / a.us for a, b in zip(ours, theirs) if a is not None and b is not None and a.switches == 0 and b.switches == 0]


def ratio_of(ours, theirs):
    """{"ratio", "ratio_q25", "rounds"}: median and lower quartile over rounds, None where too few are clean."""
    values = ratios(ours, theirs)
    if len(values) < LEAST_CLEAN:
        return {"ratio": None, "ratio_q25": None, "rounds": len(values)}
    return {"ratio": quantile(values, 0.5), "ratio_q25": quantile(values, 0.25), "rounds": len(values)}


def switches():
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def take(candidate, count, before=None):
    """One sample; `before` runs before the clock starts (eviction of the caches)."""
    if before is not None:
        before()
    left = switches()
    start = time.perf_counter_ns()
    candidate.call(count)
    lasted = time.perf_counter_ns() - start
    return Sample(lasted / 1e3 / count, max(0, switches() - left - 5 * (lasted // 10**9)))


def calibrate(candidate):
    """(calls a sample, microseconds a call). The first call does not count, unless it takes a second."""
    for _ in range(2):
        start = time.perf_counter_ns()
        candidate.call(1)
        us = max((time.perf_counter_ns() - start) / 1e3, 0.05)
        if us >= 1e6:
            break
    if us >= 4 * LEAST_SAMPLE_US:
        return 1, us
    count = 1
    while True:
        start = time.perf_counter_ns()
        candidate.call(count)
        took = (time.perf_counter_ns() - start) / 1e3
        if took >= LEAST_SAMPLE_US:
            return count, took / count
        count = max(count + 1, min(8 * count, int(1.2 * count * LEAST_SAMPLE_US / max(took, 1))))


def rounds_with(us, rounds):
    """In how many of `rounds` a candidate of `us` a call takes part."""
    return rounds if us <= ROUND_US else max(LEAST_CLEAN, min(rounds, int(rounds * ROUND_US / us)))


def measure(candidates, rounds, seed, reset=None, before=None, most_rounds=None):
    """{name: [Sample or None a round]}. `reset` puts accumulated outputs back before each round. With `before` every call is a sample
    of its own. Rounds are added, up to `most_rounds`, while fewer than `rounds` are clean of what is ours or best, or fewer than four of
    what is so slow that it takes part in some rounds only."""
    order = random.Random(seed)
    counts, warmed, turns = {}, {}, {}
    for c in candidates:
        counts[c.name], us = calibrate(c)
        warmed[c.name] = us <= SLOW_US and before is None
        turns[c.name] = rounds_with(us, rounds)
        if before is not None:
            counts[c.name] = 1
    samples = {c.name: [] for c in candidates}
    seldom = {name for name, turn in turns.items() if turn < rounds}
    taken = dict.fromkeys(samples, 0)
    most_rounds = most_rounds or 3 * rounds

    def enough(name):
        """Slow ones are not asked for more than they need, nor more than twice that."""
        if name in seldom:
            return len(clean(samples[name])) >= LEAST_CLEAN or taken[name] >= 2 * turns[name]
        return len(clean(samples[name])) >= rounds

    def takes_part(name, index):
        if name not in seldom:
            return True
        if index >= rounds:
            return not enough(name)
        return index * turns[name] // rounds != (index - 1) * turns[name] // rounds  # spread over the rounds

    decisive = [c.name for c in candidates if c.column in ("ours", "best") or c.name in seldom]
    gc_was_on = gc.isenabled()
    gc.disable()
    try:
        for index in range(most_rounds):
            if index >= rounds and all(map(enough, decisive)):
                break
            if reset is not None:
                reset()
            for c in order.sample(candidates, len(candidates)):
                if not takes_part(c.name, index):
                    samples[c.name].append(None)
                    continue
                if warmed[c.name]:
                    c.call(1)
                samples[c.name].append(take(c, counts[c.name], before))
                taken[c.name] += 1
    finally:
        if gc_was_on:
            gc.enable()
    return samples
