"""What the machine allows, by limits.cpp. Standard library only."""

import ctypes
import glob
import os

KINDS = ("read", "update", "copy")


def _bytes_of(text):
    return int(text.rstrip("KM")) << {"K": 10, "M": 20}.get(text[-1], 0)


def caches():
    """Bytes of L1 (data) and L2 of one core, and of the last cache."""
    found = {"L1": 32 << 10, "L2": 1 << 20, "L3": 0}
    for folder in glob.glob("/sys/devices/system/cpu/cpu0/cache/index*"):
        values = {name: open(os.path.join(folder, name)).read().strip() for name in ("level", "type", "size")}
        if values["type"] != "Instruction":
            found["L" + values["level"]] = _bytes_of(values["size"])
    return found


def measure(library, threads, caches):
    """{"fma_flops", "bytes_per_second": {level: {kind}}, "fork_join_us", "vector_bits"} for so many threads."""
    library.limits_fma.restype = library.limits_bf16_dots.restype = library.limits_bytes.restype = library.limits_fork_join.restype = (
        ctypes.c_double
    )
    library.limits_bytes.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
    sizes = {"L1": threads * caches["L1"] // 2, "L2": threads * caches["L2"] // 2}
    if caches["L3"]:
        sizes["L3"] = min(caches["L3"] // 2, 64 << 20)
    sizes["DRAM"] = min(max(256 << 20, 4 * caches["L3"]), 2 << 30)
    speeds = {
        level: {kind: library.limits_bytes(index, threads, size, 4 if level == "DRAM" else 8) for index, kind in enumerate(KINDS)}
        for level, size in sizes.items()
    }
    speeds.setdefault("L3", speeds["DRAM"])
    return {
        "fma_flops": library.limits_fma(threads),
        "bf16_dot_flops": library.limits_bf16_dots(threads),
        "bytes_per_second": speeds,
        "fork_join_us": library.limits_fork_join(threads) * 1e6,
        "vector_bits": library.limits_vector_bits(),
    }


def larger(a, b):
    """Of two measurements the faster of each."""
    return {
        "fma_flops": max(a["fma_flops"], b["fma_flops"]),
        "bf16_dot_flops": max(a["bf16_dot_flops"], b["bf16_dot_flops"]),
        "fork_join_us": min(a["fork_join_us"], b["fork_join_us"]),
        "vector_bits": a["vector_bits"],
        "bytes_per_second": {
            level: {kind: max(speed, b["bytes_per_second"][level][kind]) for kind, speed in kinds.items()}
            for level, kinds in a["bytes_per_second"].items()
        },
    }


def sentence(threads, found):
    speeds = "; ".join(
        f"{level} " + "/".join(f"{found['bytes_per_second'][level][kind] / 1e9:.0f}" for kind in KINDS)
        for level in ("L1", "L2", "L3", "DRAM")
    )
    return (
        f"{threads} thread{'s' if threads > 1 else ''}: {found['fma_flops'] / 1e9:.0f} Gflop/s ({found['vector_bits']} bits; bf16 dots {found['bf16_dot_flops'] / 1e9:.0f}), GB/s read/update/copy: {speeds}; "
        f"a parallel region {found['fork_join_us']:.2f} us"
    )
