# python3 interface.py LIBRARY PROGRAM DATA: the C interface through ctypes, with nothing but the standard library. Structs as
# PROGRAM --layout says that C has them, numbers as DATA/golden has them, threads, sentences.
import ctypes
import json
import math
import pathlib
import struct
import subprocess
import sys
import threading
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p

FLOAT32, INT32, INT64 = 1, 5, 6
ERROR_SHAPE, ERROR_DATA = 1, 3
wrong = 0
checks = 0


def check(condition, sentence):
    global wrong, checks
    checks += 1
    if not condition:
        wrong += 1
        print("wrong:", sentence)


# --- structs, as a binding would write them
def record(name, fields):
    return type(name, (Structure,), {"_fields_": fields})


ALLOCATE = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_size_t, c_size_t)
DEALLOCATE = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_size_t, c_size_t)
View = record("graft_view", [("data", c_void_p), ("dtype", c_int32), ("rank", c_int32),
                             ("shape", c_int64 * 4), ("strides", c_int64 * 4)])
Executor = record("graft_executor", [("kind", c_int32), ("threads", c_int32), ("allocate", ALLOCATE),
                                     ("deallocate", DEALLOCATE), ("context", c_void_p)])


def views(name, *fields):
    return record(name, [(field, View) for field in fields])


Lora = record("graft_lora", [("A", View), ("B", View), ("bias", View), ("scale", c_double)])
LoraGradients = views("graft_lora_gradients", "A", "B", "bias")
PackedLora = record("graft_packed_lora", [("A", View), ("panels", View), ("bias", View), ("scale", c_double),
                                          ("out_features", c_int64)])
Dora = record("graft_dora", [("A", View), ("B", View), ("magnitude", View), ("norms", View), ("scale", c_double)])
DoraGradients = views("graft_dora_gradients", "A", "B", "magnitude")
Vera = views("graft_vera", "A", "B", "d", "b")
PackedVera = views("graft_packed_vera", "A", "panels", "d", "b")
VeraGradients = views("graft_vera_gradients", "d", "b")
Oft = record("graft_oft", [("parameters", View), ("rotations", View), ("features", c_int64), ("block_size", c_int64),
                           ("terms", c_int32)])
Boft = views("graft_boft", "parameters", "s", "rotations")
Gate = record("graft_gate", [("score", c_int32), ("renormalize", c_int32), ("epsilon", c_double), ("scale", c_double),
                             ("temperature", c_double), ("top_p", c_double), ("groups", c_int64),
                             ("kept_groups", c_int64), ("second_expert", c_int32), ("non_finite", c_int32),
                             ("threshold", c_double), ("seed", c_uint64), ("stream", c_uint64)])
Plan = record("graft_plan", [(name, c_int64) for name in ("tokens", "choices", "experts", "pairs", "rows", "tiles",
                                                          "alignment", "tile")] +
              [(name, POINTER(ctypes.c_uint8 if name == "dropped" else c_int64)) for name in
               ("counts", "offsets", "permutation", "row_tokens", "inverse", "dropped", "tile_experts", "tile_rows",
                "status")])
Capacity = record("graft_capacity", [("factor", c_double), ("minimum", c_int64), ("fixed", c_int64),
                                     ("per_choice", c_int32), ("rounds_up", c_int32), ("order", c_int32),
                                     ("group", c_int64), ("seed", c_uint64), ("stream", c_uint64)])
STRUCTS = [Executor, View, Lora, LoraGradients, PackedLora, Dora, DoraGradients, Vera, PackedVera, VeraGradients, Oft, Boft,
           Gate, Plan, Capacity]

library = ctypes.CDLL(sys.argv[1])
for function in ("graft_last_error", "graft_version", "graft_isa"):
    getattr(library, function).restype = c_char_p
library.graft_limit_isa.argtypes = [c_int]


def sentence():
    return library.graft_last_error().decode()


def call(function, *arguments):
    status = getattr(library, function)(*[byref(a) if isinstance(a, Structure) else a for a in arguments])
    check(status == 0, f"{function}: status {status}, {sentence()}")


def serial(kind=2, threads=1):
    return Executor(kind, threads)


# --- arrays
class Array:
    def __init__(self, values, shape, kind=c_double):
        self.shape = tuple(shape)
        size = math.prod(self.shape)
        self.memory = (kind * size)(*values)
        dtype = {ctypes.c_float: FLOAT32, c_int32: INT32, c_int64: INT64, c_double: 4}[kind]
        strides, step = [], 1
        for extent in reversed(self.shape):
            strides.insert(0, step)
            step *= extent
        self.view = View(ctypes.addressof(self.memory), dtype, len(self.shape), (c_int64 * 4)(*self.shape),
                         (c_int64 * 4)(*strides))

    def transposed(self):
        v = View.from_buffer_copy(self.view)
        v.shape[0], v.shape[1] = self.shape[1], self.shape[0]
        v.strides[0], v.strides[1] = 1, self.shape[1]
        return v

    def __iter__(self):
        return iter(self.memory)


def single(values, shape):
    return Array(values, shape, ctypes.c_float)


def zeros(*shape):
    return single([0.0] * math.prod(shape), shape)


class Case:
    """A file of tests/data/golden: tensors as lists of numbers, see docs/golden.md."""

    def __init__(self, path):
        blob = path.read_bytes()
        length = struct.unpack("<Q", blob[:8])[0]
        header = json.loads(blob[8:8 + length])
        meta = header.pop("__metadata__")
        self.name = f"{path.parent.name}/{path.stem}"
        self.config = json.loads(meta["config"])
        self.tol = json.loads(meta["tol"])
        self.data, self.shape, self.compared = {}, {}, 0
        for name, entry in header.items():
            code = {"F32": "f", "F64": "d", "I64": "q", "I32": "i"}.get(entry["dtype"])
            if code is None:
                continue
            begin, end = entry["data_offsets"]
            raw = blob[8 + length + begin:8 + length + end]
            self.data[name] = struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw)
            self.shape[name] = entry["shape"]

    def array(self, name):
        shape = self.shape[name]
        if len(shape) > 2 and name.rpartition(".")[2] in ("x", "dy"):  # tokens are rows
            shape = [math.prod(shape[:-1]), shape[-1]]
        return single(self.data[name], shape)

    def compare(self, name, got):
        if name not in self.tol:  # nobody expects it
            return
        self.compared += 1
        bound = self.tol[name]
        want = self.data[name + "64"]
        got = list(got)
        check(len(got) == len(want), f"{self.name}: {name} has {len(got)} elements, not {len(want)}")
        worst = max((abs(g - w) - bound["atol"] - bound["rtol"] * abs(w) for g, w in zip(got, want)), default=0)
        check(worst <= 0, f"{self.name}: {name} is off by {worst} more than its bound")


def base(x, w, tokens, n, m):
    """x W^T, W[m, n]."""
    x, w = list(x), list(w)
    return [math.fsum(x[t * n + i] * w[o * n + i] for i in range(n)) for t in range(tokens) for o in range(m)]


def golden_lora(case, ex):
    if "lora_A" not in case.data or "lora_B.bias" in case.data or case.config["W_layout"] != "[out,in]":
        return False
    x, dy, a, b, w = (case.array(name) for name in ("x", "dy", "lora_A", "lora_B", "W"))
    tokens, n = x.shape
    m, r = b.shape
    lora = Lora(a.view, b.view, View(), case.config["adapters"][0]["scaling"])
    check(library.graft_lora_parameter_count(byref(lora)) == r * (n + m), "the number of parameters")
    y = base(x, w, tokens, n, m)
    if "bias" in case.data:
        y = [v + case.data["bias"][i % m] for i, v in enumerate(y)]
    y = single(y, (tokens, m))
    call("graft_lora_add_delta", ex, lora, x.view, y.view)
    case.compare("y", y)
    da, db = zeros(r, n), zeros(m, r)
    dx = single(base(dy, [w.memory[o * n + i] for i in range(n) for o in range(m)], tokens, m, n), (tokens, n))
    call("graft_lora_backward", ex, lora, x.view, dy.view, LoraGradients(da.view, db.view), dx.view)
    for name, got in (("grad.lora_A", da), ("grad.lora_B", db), ("grad.x", dx)):
        case.compare(name, got)
    delta = zeros(m, n)
    call("graft_lora_delta_weight", ex, lora, delta.view)
    case.compare("delta.W", delta)
    call("graft_lora_merge", ex, lora, w.view, None)
    case.compare("merged.W", w)
    return True


def golden_dora(case, ex):
    if case.config["W_layout"] != "[out,in]":
        return False
    x, a, b, w, magnitude = (case.array(name) for name in ("x", "lora_A", "lora_B", "W", "lora_magnitude_vector"))
    m, n = w.shape
    tokens = x.shape[0]
    norms, factors = zeros(m), zeros(m)
    dora = Dora(a.view, b.view, magnitude.view, norms.view, case.config["scaling"])
    call("graft_dora_update_norms", ex, dora, w.view, None)
    case.compare("weight_norm", norms)
    call("graft_dora_prepare", ex, dora, factors.view)
    y = single(base(x, w, tokens, n, m), (tokens, m))
    call("graft_dora_transform_output_prepared", ex, dora, factors.view, x.view, y.view)
    bias = case.data.get("bias", [0.0] * m)
    case.compare("y", [v + bias[i % m] for i, v in enumerate(y)])
    call("graft_dora_merge", ex, dora, w.view)
    case.compare("merged.W", w)
    return True


def golden_gate(case, ex):
    if "d_topk_weights" not in case.data or "topk_weights" not in case.tol:
        return False
    logits, dweights = case.array("logits"), case.array("d_topk_weights")
    tokens, k = dweights.shape
    gate = Gate(0, int(case.config["norm_topk_prob"]), 0.0, 1.0, 1.0, 1.0, 1, 1, 0, 0, 0.5, 0, 0)
    ids, weights = Array([0] * (tokens * k), (tokens, k), c_int64), zeros(tokens, k)
    call("graft_route", ex, gate, logits.view, None, ids.view, weights.view, None)
    case.compare("topk_weights", weights)
    check(list(ids) == list(case.data["topk_indices"]), f"{case.name}: the ids")
    dlogits = zeros(*logits.shape)
    call("graft_route_backward", ex, gate, logits.view, ids.view, dweights.view, dlogits.view, None)
    x, experts = case.array("x"), logits.shape[1]
    n = x.shape[1]
    gradient = base([dlogits.memory[t * experts + e] for e in range(experts) for t in range(tokens)],
                    [x.memory[t * n + i] for i in range(n) for t in range(tokens)], experts, tokens, n)
    case.compare("grad.gate.weight", gradient)
    return True


def test_golden():
    for kind, threads in ((2, 1), (3, 2)):
        ex = serial(kind, threads)
        for folder, test, least in (("lora", golden_lora, 4), ("dora", golden_dora, 4), ("router_mixtral", golden_gate, 1)):
            cases = [Case(path) for path in sorted(pathlib.Path(sys.argv[3], "golden", folder).glob("*"))]
            done = [case for case in cases if test(case, ex)]
            check(len(done) >= least and all(case.compared >= 2 for case in done), f"{len(done)} cases of {folder}")


def test_layout():
    said = json.loads(subprocess.run([sys.argv[2], "--layout"], check=True, capture_output=True, text=True).stdout)
    check(set(said) == {s.__name__ for s in STRUCTS}, "the structs that there are")
    for s in STRUCTS:
        here = {"": ctypes.sizeof(s), **{field[0]: getattr(s, field[0]).offset for field in s._fields_}}
        check(said[s.__name__] == here, f"{s.__name__}: C has {said[s.__name__]}, ctypes {here}")


def test_threads():
    """Many threads at once, each with its own last error; numbers do not depend on them."""
    x = single([math.sin(i) for i in range(40 * 96)], (40, 96))
    a = single([math.sin(7 * i) for i in range(8 * 96)], (8, 96))
    b = single([math.sin(3 * i) for i in range(64 * 8)], (64, 8))
    lora = Lora(a.view, b.view, View(), 0.5)

    def forward(ex):
        y = single([math.cos(i) for i in range(40 * 64)], (40, 64))
        call("graft_lora_add_delta", ex, lora, x.view, y.view)
        return bytes(y.memory)

    first = forward(serial())
    check(forward(serial(1)) == first, "the reference executor has the same bits")
    for threads in (0, 1, 2, 3):
        check(forward(serial(3, threads)) == first, f"{threads} OpenMP threads have the same bits")
    for level in (0, 1, 2):
        library.graft_limit_isa(level)
        check(forward(serial()) == first, f"level {level} has the same bits")
    said, results = {}, []

    def work(i):
        y = zeros(40, i + 1)
        status = library.graft_lora_add_delta(byref(serial()), byref(lora), byref(x.view), byref(y.view))
        check(status == ERROR_SHAPE, "a wrong shape is refused")
        results.append(forward(serial()))
        said[i] = sentence()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(all(result == first for result in results), "calls at once have the same bits")
    check(all(f"[40, {i + 1}]" in said[i] for i in range(8)), f"each thread has its own sentence: {said}")


def test_plan():
    ids = Array([0, 2, 1, 0, 2, 1], (3, 2), c_int32)
    size = c_size_t()
    check(library.graft_plan_bytes(c_int64(6), c_int64(3), c_int64(1), c_int64(0), byref(size)) == 0, sentence())
    memory = (c_int64 * ((size.value + 7) // 8))()
    plan = Plan()
    make = library.graft_plan_make
    make.argtypes = [POINTER(Executor), POINTER(View), c_int64, c_int64, c_int64, POINTER(Capacity), POINTER(View),
                     POINTER(View), c_void_p, c_size_t, POINTER(Plan)]
    ex = serial()
    check(make(ex, ids.view, 3, 1, 0, None, None, None, ctypes.addressof(memory), size.value, plan) == 0, sentence())
    check(plan.offsets[:4] == [0, 2, 4, 6] and plan.permutation[:6] == [0, 3, 2, 5, 1, 4], "rows of the plan")
    x, rows, y = single([1, 2, 3], (3, 1)), zeros(6, 1), zeros(3, 1)
    call("graft_dispatch", ex, plan, x.view, None, rows.view)
    check(list(rows) == [1, 2, 2, 3, 1, 3], "dispatched rows")
    call("graft_combine", ex, plan, rows.view, None, y.view)
    check(list(y) == [2, 4, 6], "combined rows")
    ids.memory[3] = 9
    check(make(ex, ids.view, 3, 1, 0, None, None, None, ctypes.addressof(memory), size.value, plan) == ERROR_DATA and
          "token 1 names the expert 9" in sentence(), f"a bad id: {sentence()}")


def test_sentences():
    check(library.graft_version() == b"0.1.0", "the version")
    check(library.graft_isa() in (b"baseline", b"avx2", b"avx512"), "the level")


test_layout()
test_sentences()
test_golden()
test_plan()
test_threads()
print(f"{checks} checks, {wrong} wrong")
sys.exit(wrong != 0)
