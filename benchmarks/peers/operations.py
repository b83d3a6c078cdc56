"""What each row runs: graft through its C interface, PyTorch and PEFT as users write it, the best that PyTorch can do, and
other libraries where they are there. Every tensor belongs to torch, so that all find the same memory."""

import ctypes
import dataclasses
import math
import warnings

import torch
import torch.nn.functional as F

import graft_c
from sampling import Candidate

SCALE = 2.0


@dataclasses.dataclass
class Problem:
    candidates: list
    reference: list  # float64, one for each tensor of a result
    tolerance: float  # of the largest value
    reset: object = None  # puts accumulated outputs back, before each round and each check
    reset_for_check: object = None  # the same where it is too much for each round
    notes: list = dataclasses.field(default_factory=list)  # what is not there, and why


class Bench:
    """The process: libraries, threads, random numbers."""

    def __init__(self, library, torch_loops, libraries):
        self.library, self.torch_loops, self.libraries = library, torch_loops, libraries
        library.peers_library_lora.restype = ctypes.c_void_p
        for f in (library.peers_library_run, library.peers_library_free):
            f.argtypes = [ctypes.c_void_p] + ([ctypes.c_int64] if f is library.peers_library_run else [])
            f.restype = None
        if torch_loops is not None:
            for f in (torch_loops.torch_loops_lora, torch_loops.torch_loops_gate, torch_loops.torch_loops_rotate):
                f.restype = ctypes.c_void_p
            torch_loops.torch_loops_run.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        self.threads = 1
        self.evicted = None

    def use(self, threads):
        self.threads = threads
        torch.set_num_threads(threads)
        self.graft = graft_c.Graft(self.library, threads)

    def evict(self):
        if self.evicted is None:
            self.evicted = torch.zeros(192 << 18)  # 192 MiB
        self.library.peers_evict(ctypes.c_void_p(self.evicted.data_ptr()), ctypes.c_size_t(4 * self.evicted.numel()), self.threads)

    def malloc(self, tuned):
        self.library.peers_malloc(1 if tuned else 0)

    # --- candidates

    def ours(self, name, result, *calls, column="ours"):
        return Candidate(name, column, self.graft.repeated(*calls), result)

    def python(self, name, column, f, result):
        """f() from Python, in inference mode. As users write it: with malloc as a program finds it."""

        def call(count):
            with torch.inference_mode():
                for _ in range(count):
                    f()

        def with_default_malloc(count):
            self.malloc(tuned=False)
            try:
                call(count)
            finally:
                self.malloc(tuned=True)

        return Candidate(name, column, with_default_malloc if column == "peer" else call, result)

    def libtorch(self, name, prepare, result, *arguments):
        """A loop in C++: nothing without libtorch's headers."""
        if self.torch_loops is None:
            return []
        handle = getattr(self.torch_loops, prepare)(*[_c(a) for a in arguments])
        return [Candidate(name, "best", lambda count, kept=arguments: self.torch_loops.torch_loops_run(handle, count), result)]

    def library_lora(self, x, A, B, y, v, result):
        """y += s (x A^T) B^T by each of the other libraries."""
        found, notes = [], []
        for name, file in self.libraries.items():
            if file is None:
                notes.append(f"{name}: not installed")
                continue
            handle = self.library.peers_library_lora(
                file.encode(), self.threads, *[_c(a) for a in (x, A, B, y, v)], x.shape[0], x.shape[1], y.shape[1], A.shape[0], _c(SCALE)
            )
            if handle is None:
                notes.append(f"{name}: {file} has no sgemm that is known here")
                continue
            found.append(
                Candidate(name, "other", lambda count, h=handle, kept=(x, A, B, y, v): self.library.peers_library_run(h, count), result)
            )
        return found, notes


def _c(argument):
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int64(argument)


def _onednn_linear(x, weight):
    """x weight^T by oneDNN, as torch.compile has it called; weight as it is or from _reordered."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


def _reordered(weight, tokens):
    """weight in the form that oneDNN likes for so many tokens; made once, as at load."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, tokens)


def _normal(*shape, scale=1.0, dtype=torch.float32):
    return (torch.randn(*shape) * scale).to(dtype)


class Free(torch.nn.Linear):
    """A base layer that costs nothing: its output is given. What PEFT does around it is then timed alone."""

    given = None
    seen = None

    def forward(self, x):
        self.seen = x
        return self.given


def _peft_layer(config, n, m):
    import peft

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Free(n, m, bias=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(Model(), config).eval().base_model.model.layer


def _peft_lora(A, B, dtype=torch.float32, **options):
    import peft

    layer = _peft_layer(
        peft.LoraConfig(r=A.shape[0], lora_alpha=SCALE * A.shape[0], target_modules=["layer"], **options), A.shape[1], B.shape[0]
    ).to(dtype)
    layer.lora_A["default"].weight.data = A
    layer.lora_B["default"].weight.data = B
    return layer


# --- LoRA


def lora(row, bench):
    T, r, n, m = (row.sizes[k] for k in ("T", "r", "n", "m"))
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[row.dtype]
    x, A, B, y0 = (
        _normal(T, n, dtype=dtype),
        _normal(r, n, scale=0.02, dtype=dtype),
        _normal(m, r, scale=0.02, dtype=dtype),
        _normal(T, m, dtype=dtype),
    )
    y, v = y0.clone(), torch.zeros(T, r, dtype=dtype)
    At, Bt = A.t(), B.t()
    result = lambda: [y]
    plain = graft_c.of(graft_c.Lora, A=A, B=B, scale=SCALE)
    panels = torch.empty(bench.graft.packed_size(m, r), dtype=dtype)
    packed = bench.graft.pack(plain, panels)
    packed.kept = panels

    def hand(y=y):
        y += SCALE * (x @ A.T @ B.T)

    def in_place():
        torch.mm(x, At, out=v)
        y.addmm_(v, Bt, alpha=SCALE)

    layer = _peft_lora(A, B, dtype)
    layer.base_layer.given = y0
    seen = {}

    def peft():
        seen["y"] = layer(x)

    candidates = [
        bench.ours("graft, B packed", result, ("graft_packed_lora_add_delta", packed, x, y)),
        bench.ours("graft, B as in the checkpoint", result, ("graft_lora_add_delta", plain, x, y), column="extra"),
        bench.python("y += s (x @ A.T @ B.T)", "peer", hand, result),
        bench.python("mm(out=), addmm_", "best", in_place, result),
        bench.python("PEFT's layer", "other", peft, lambda: [seen["y"]]),
    ]
    flag = int(dtype == torch.bfloat16)
    candidates += bench.libtorch("mm(out=), addmm_ in C++", "torch_loops_lora", result, x, A, B, y, v, T, n, m, r, flag, 0, SCALE)
    if T == 1:
        candidates += bench.libtorch("mv(out=), addmv_ in C++", "torch_loops_lora", result, x, A, B, y, v, T, n, m, r, flag, 1, SCALE)
    with torch.inference_mode():
        A_reordered, B_reordered = _reordered(A, T), _reordered(B, T)

    def onednn():
        scaled = _onednn_linear(x, A_reordered).mul_(SCALE)
        seen["by oneDNN"] = torch.ops.mkldnn._linear_pointwise.binary(scaled, y, B_reordered, None, "add")

    candidates.append(bench.python("oneDNN's linear and linear + y, weights reordered", "best", onednn, lambda: [seen["by oneDNN"]]))
    notes = []
    if dtype == torch.bfloat16:
        x32, A32t, B32t, y32, v32 = torch.empty(T, n), A.float().t(), B.float().t(), torch.empty(T, m), torch.empty(T, r)

        def widened():
            x32.copy_(x)
            y32.copy_(y)
            torch.mm(x32, A32t, out=v32)
            y32.addmm_(v32, B32t, alpha=SCALE)
            y.copy_(y32)

        candidates.append(bench.python("weights kept in fp32 as well", "best", widened, result))
    else:
        others, notes = bench.library_lora(x, A, B, y, v, result)
        candidates += others
    reference = y0.double() + SCALE * (x.double() @ A.double().T @ B.double().T)
    return Problem(candidates, [reference], 1e-2 if flag else 1e-5, lambda: y.copy_(y0), notes=notes)


def lora_backward(row, bench):
    T, r, n, m = (row.sizes[k] for k in ("T", "r", "n", "m"))
    x, A, B, dy = _normal(T, n), _normal(r, n, scale=0.02), _normal(m, r, scale=0.02), _normal(T, m)
    dA, dB, dx = torch.zeros(r, n), torch.zeros(m, r), torch.zeros(T, n)
    u, v, dBt = torch.empty(T, r), torch.empty(T, r), torch.empty(r, m)
    result = lambda: [dA, dB, dx]
    plain = graft_c.of(graft_c.Lora, A=A, B=B, scale=SCALE)
    gradients = graft_c.of(graft_c.LoraGradients, A=dA, B=dB)
    leaves = [t.clone().requires_grad_() for t in (A, B, x)]
    for leaf, gradient in zip(leaves, (dA, dB, dx)):
        leaf.grad = gradient

    def autograd(count):
        bench.malloc(tuned=False)
        try:
            for _ in range(count):
                (SCALE * (leaves[2] @ leaves[0].T @ leaves[1].T)).backward(dy)
        finally:
            bench.malloc(tuned=True)

    def products():
        torch.mm(x, A.t(), out=v)
        torch.mm(dy, B, out=u)
        dB.addmm_(dy.t(), v, alpha=SCALE)
        dA.addmm_(u.t(), x, alpha=SCALE)
        dx.addmm_(u, A, alpha=SCALE)

    def products_turned():
        torch.mm(x, A.t(), out=v)
        torch.mm(dy, B, out=u)
        torch.mm(v.t(), dy, out=dBt)
        dB.add_(dBt.t(), alpha=SCALE)
        dA.addmm_(u.t(), x, alpha=SCALE)
        dx.addmm_(u, A, alpha=SCALE)

    with torch.inference_mode():
        A_reordered, Bt_reordered = _reordered(A, T), _reordered(B.t().contiguous(), T)

    def products_onednn():
        v1, u1 = _onednn_linear(x, A_reordered), _onednn_linear(dy, Bt_reordered)
        torch.mm(v1.t(), dy, out=dBt)
        dB.add_(dBt.t(), alpha=SCALE)
        dA.addmm_(u1.t(), x, alpha=SCALE)
        dx.addmm_(u1, A, alpha=SCALE)

    def reset():
        for t in (dA, dB, dx):
            t.zero_()

    X, a, b, g = x.double(), A.double(), B.double(), dy.double()
    reference = [SCALE * (g @ b).T @ X, SCALE * g.T @ (X @ a.T), SCALE * (g @ b) @ a]
    candidates = [
        bench.ours("graft", result, ("graft_lora_backward", plain, x, dy, gradients, dx)),
        Candidate("autograd, with its forward", "peer", autograd, result),
        bench.python("five products in place", "best", products, result),
        bench.python("five products, dB by its transpose", "best", products_turned, result),
        bench.python("five products, two by oneDNN", "best", products_onednn, result),
    ]
    return Problem(candidates, reference, 2e-5, reset)


def merge(row, bench):
    r, n, m = (row.sizes[k] for k in ("r", "n", "m"))
    W0, A, B = _normal(m, n, scale=0.02), _normal(r, n, scale=0.02), _normal(m, r, scale=0.02)
    W = W0.clone()
    result = lambda: [W]
    plain = graft_c.of(graft_c.Lora, A=A, B=B, scale=SCALE)
    layer = _peft_lora(A, B)
    layer.base_layer.weight.data = W

    def peft():
        layer.merge()
        layer.merged_adapters.clear()

    def hand(W=W):
        W += SCALE * (B @ A)

    candidates = [
        bench.ours("graft", result, ("graft_lora_merge", plain, W, None)),
        bench.python("PEFT's merge", "peer", peft, result),
        bench.python("W += s (B @ A)", "other", hand, result),
        bench.python("addmm_", "best", lambda: W.addmm_(B, A, alpha=SCALE), result),
    ]
    # Merged again and again W grows by s B A each time: no denormals, no overflow, so it is put back for the checks only.
    reference = W0.double() + SCALE * (B.double() @ A.double())
    return Problem(candidates, [reference], 1e-5, reset_for_check=lambda: W.copy_(W0))


# --- DoRA


class _Norms:
    """|| W + s B A || of rows by PyTorch."""

    def __init__(self, W, A, B, norms):
        m, n = W.shape
        r = A.shape[0]
        self.W, self.A, self.B, self.norms = W, A, B, norms
        self.formed = None
        self.WA, self.G, self.BG, self.part = torch.empty(m, r), torch.empty(r, r), torch.empty(m, r), torch.empty(m)

    def by_forming(self):
        if self.formed is None:
            self.formed = torch.empty_like(self.W)
        torch.addmm(self.W, self.B, self.A, alpha=SCALE, out=self.formed)
        torch.linalg.vector_norm(self.formed, dim=1, out=self.norms)

    def by_gram(self, onednn=False):
        """|| W ||^2 + 2 s (W A^T) . B + s^2 (B A A^T) . B"""
        torch.linalg.vector_norm(self.W, dim=1, out=self.norms)
        self.norms.square_()
        if onednn:
            self.WA = _onednn_linear(self.W, self.A)
        else:
            torch.mm(self.W, self.A.t(), out=self.WA)
        torch.mm(self.A, self.A.t(), out=self.G)
        torch.mm(self.B, self.G, out=self.BG)
        self.WA.mul_(2 * SCALE).add_(self.BG, alpha=SCALE * SCALE).mul_(self.B)
        torch.sum(self.WA, dim=1, out=self.part)
        self.norms.add_(self.part).sqrt_()


def dora_norm(row, bench):
    r, n, m = (row.sizes[k] for k in ("r", "n", "m"))
    W, A, B = _normal(m, n, scale=0.02), _normal(r, n, scale=0.02), _normal(m, r, scale=0.02)
    norms, magnitude = torch.empty(m), torch.ones(m)
    result = lambda: [norms]
    dora = graft_c.of(graft_c.Dora, A=A, B=B, magnitude=magnitude, norms=norms, scale=SCALE)
    by = _Norms(W, A, B, norms)
    layer = _peft_lora(A, B, use_dora=True)
    peft_dora = layer.lora_magnitude_vector["default"]
    seen = {}

    def peft():
        weight = peft_dora.get_lora_weight(layer.lora_A["default"], layer.lora_B["default"])
        seen["norms"] = peft_dora.get_weight_norm(W, weight, SCALE)

    def hand():
        seen["norms"] = torch.linalg.norm(W + SCALE * (B @ A), dim=1)

    candidates = [
        bench.ours("graft", result, ("graft_dora_update_norms", dora, W, None)),
        bench.python("PEFT's get_weight_norm", "peer", peft, lambda: [seen["norms"]]),
        bench.python("norm(W + s (B @ A))", "other", hand, lambda: [seen["norms"]]),
        bench.python("addmm(out=), vector_norm(out=)", "best", by.by_forming, result),
        bench.python("Gram form, out=", "best", by.by_gram, result),
        bench.python("Gram form, W A^T by oneDNN", "best", lambda: by.by_gram(onednn=True), result),
    ]
    reference = torch.linalg.norm(W.double() + SCALE * (B.double() @ A.double()), dim=1)
    return Problem(candidates, [reference], 1e-5)


def dora_forward(row, bench):
    T, r, n, m = (row.sizes[k] for k in ("T", "r", "n", "m"))
    W, A, B, x, y0 = _normal(m, n, scale=0.02), _normal(r, n, scale=0.02), _normal(m, r, scale=0.02), _normal(T, n), _normal(T, m)
    exact = torch.linalg.norm(W.double() + SCALE * (B.double() @ A.double()), dim=1)
    magnitude = (exact * (1 + 0.1 * torch.rand(m).double())).float()
    y, v, norms, c, factors = y0.clone(), torch.empty(T, r), torch.empty(m), torch.empty(m), torch.empty(m)
    result = lambda: [y]
    dora = graft_c.of(graft_c.Dora, A=A, B=B, magnitude=magnitude, norms=norms, scale=SCALE)
    bench.graft.repeated(("graft_dora_update_norms", dora, W, None), ("graft_dora_prepare", dora, factors))(1)
    layer = _peft_lora(A, B, use_dora=True)
    layer.base_layer.weight.data = W
    layer.base_layer.given = y0
    layer.lora_magnitude_vector["default"].weight.data = magnitude
    seen = {}

    def peft():
        seen["y"] = layer(x)

    by = _Norms(W, A, B, norms)

    def forward(norms_first):
        norms_first()
        torch.div(magnitude, norms, out=c)
        torch.mm(x, A.t(), out=v)
        y.addmm_(v, B.t(), alpha=SCALE).mul_(c)

    candidates = [
        bench.ours(
            "graft, norms on each call",
            result,
            ("graft_dora_update_norms", dora, W, None),
            ("graft_dora_transform_output", dora, x, y, None),
        ),
        bench.ours("graft, prepared", result, ("graft_dora_transform_output_prepared", dora, factors, x, y), column="extra"),
        bench.python("PEFT's layer", "peer", peft, lambda: [seen["y"]]),
        bench.python("Gram form, addmm_, mul_", "best", lambda: forward(by.by_gram), result),
        bench.python("Gram form, W A^T by oneDNN, addmm_, mul_", "best", lambda: forward(lambda: by.by_gram(onednn=True)), result),
        bench.python("addmm(out=), vector_norm(out=), addmm_, mul_", "best", lambda: forward(by.by_forming), result),
    ]
    reference = (magnitude.double() / exact) * (y0.double() + SCALE * (x.double() @ A.double().T @ B.double().T))
    return Problem(candidates, [reference], 2e-5, lambda: y.copy_(y0))


# --- VeRA, OFT, BOFT


def vera(row, bench):
    import peft

    T, r, n, m = (row.sizes[k] for k in ("T", "r", "n", "m"))
    x, A, B, d, b, y0 = _normal(T, n), _normal(r, n, scale=0.02), _normal(m, r, scale=0.02), _normal(r), _normal(m), _normal(T, m)
    y, v, u = y0.clone(), torch.empty(T, r), torch.empty(T, m)
    result = lambda: [y]
    plain = graft_c.of(graft_c.Vera, A=A, B=B, d=d, b=b)
    panels = torch.empty(bench.graft.packed_size(m, r))
    packed = bench.graft.pack(plain, panels)
    packed.kept = panels
    layer = _peft_layer(peft.VeraConfig(r=r, target_modules=["layer"]), n, m)
    layer.vera_A["default"], layer.vera_B["default"] = A, B
    layer.vera_lambda_d["default"].data, layer.vera_lambda_b["default"].data = d, b
    layer.base_layer.given = y0
    seen = {}

    def layer_forward():
        seen["y"] = layer(x)

    def in_place():
        torch.mm(x, A.t(), out=v)
        v.mul_(d)
        torch.mm(v, B.t(), out=u)
        y.addcmul_(u, b)

    with torch.inference_mode():
        A_reordered, B_reordered = _reordered(A, T), _reordered(B, T)

    def onednn():
        y.addcmul_(_onednn_linear(_onednn_linear(x, A_reordered).mul_(d), B_reordered), b)

    candidates = [
        bench.ours("graft, B packed", result, ("graft_packed_vera_add_delta", packed, x, y)),
        bench.ours("graft, B as in the checkpoint", result, ("graft_vera_add_delta", plain, x, y), column="extra"),
        bench.python("PEFT's layer", "peer", layer_forward, lambda: [seen["y"]]),
        bench.python("mm(out=), mul_, mm(out=), addcmul_", "best", in_place, result),
        bench.python("the same by oneDNN, weights reordered", "best", onednn, result),
    ]
    reference = y0.double() + b.double() * ((d.double() * (x.double() @ A.double().T)) @ B.double().T)
    return Problem(candidates, [reference], 2e-5, lambda: y.copy_(y0))


def oft_rotate(row, bench):
    from peft.tuners.oft.layer import OFTRotationModule

    T, b, n = (row.sizes[k] for k in ("T", "b", "n"))
    D = n // b
    x, skew, turned = _normal(T, n), _normal(D, b * (b - 1) // 2, scale=0.02), torch.empty(T, n)
    rotations, kept = torch.empty(D, b, b), torch.empty(D, b, b)
    result = lambda: [turned]
    oft = graft_c.of(graft_c.Oft, parameters=skew, rotations=kept, features=n, block_size=b, terms=5)
    bench.graft.repeated(("graft_oft_update_rotations", oft))(1)
    module = OFTRotationModule(D, b * (b - 1) // 2, b, n).eval()
    module.weight.data = skew
    seen = {}

    def peft():
        seen["turned"] = module(x)

    with torch.inference_mode():
        exact = module._cayley_batch(skew.double(), b)
        rotations.copy_(exact)
    blocks, out = x.view(T, D, b).transpose(0, 1), turned.view(T, D, b).transpose(0, 1)
    apart = torch.empty(D, T, b)

    def two_steps():
        torch.bmm(blocks, rotations, out=apart)
        out.copy_(apart)

    candidates = [
        bench.ours("graft", result, ("graft_oft_transform_input", oft, x, turned)),
        bench.python("PEFT's rotation, made on each call", "peer", peft, lambda: [seen["turned"]]),
        bench.python("bmm(out=)", "best", lambda: torch.bmm(blocks, rotations, out=out), result),
        bench.python("bmm(out=), copy_", "best", two_steps, result),
    ]
    candidates += bench.libtorch("bmm(out=) in C++", "torch_loops_rotate", result, x, rotations, turned, T, D, b)
    reference = torch.einsum("tdi,dij->tdj", x.double().view(T, D, b), exact).reshape(T, n)
    return Problem(candidates, [reference], 1e-5)


def boft_forward(row, bench):
    import peft
    import peft.tuners.boft.layer as peft_boft

    class BlockDiagonal:
        """What PEFT's extension for CUDA does, by PyTorch: without it PEFT takes one factor only."""

        @staticmethod
        def forward(blocks):
            return [torch.stack([torch.block_diag(*factor) for factor in blocks])]

    peft_boft.get_fbd_cuda = lambda: BlockDiagonal
    T, b, N, n, m = (row.sizes[k] for k in ("T", "b", "factors", "n", "m"))
    D = n // b
    x, parameters, s, y0 = _normal(T, n), _normal(N, D, b, b, scale=0.1), 1 + 0.1 * torch.rand(m), _normal(T, m)
    y, turned, kept = y0.clone(), torch.empty(T, n), torch.empty(N, D, b, b)
    result = lambda: [turned, y]
    boft = graft_c.of(graft_c.Boft, parameters=parameters, s=s, rotations=kept)
    bench.graft.repeated(("graft_boft_update_rotations", boft))(1)
    layer = _peft_layer(peft.BOFTConfig(boft_block_size=b, boft_n_butterfly_factor=N, target_modules=["layer"]), n, m)
    layer.boft_R["default"].data, layer.boft_s["default"].data = parameters, s.view(m, 1)
    layer.base_layer.given = y0
    seen = {}

    def layer_forward():
        seen["y"] = layer(x)

    exact = layer.cayley_batch(parameters.double().view(N * D, b, b)).view(N, D, b, b).detach()
    rotations = exact.float()

    def groups(t, factor):
        """[T, n] as [T, groups, of each block, half, b / 2] of a factor: a block takes b / 2 of either half of its group."""
        return t.view(T, D >> factor, 2, 1 << factor, b // 2).transpose(2, 3)

    def turn(t, blocks, factor):
        z = groups(t, factor).reshape(T, D, b)
        z = torch.einsum("tdi,dij->tdj", z, blocks)
        return z.view(T, D >> factor, 1 << factor, 2, b // 2).transpose(2, 3).reshape(T, n)

    ping, pong, turned_blocks = torch.empty(T, n), torch.empty(T, n), turned.view(T, D, b).transpose(0, 1)

    def by_blocks():
        source = x
        for factor in range(N - 1, 0, -1):
            ping.view(T, D >> factor, 1 << factor, 2, b // 2).copy_(groups(source, factor))
            torch.bmm(ping.view(T, D, b).transpose(0, 1), rotations[factor], out=pong.view(T, D, b).transpose(0, 1))
            groups(ping, factor).copy_(pong.view(T, D >> factor, 1 << factor, 2, b // 2))
            source = ping
        torch.bmm(source.view(T, D, b).transpose(0, 1), rotations[0], out=turned_blocks)
        y.mul_(s)

    def by_terms():
        """Products of whole matrices of elements i of blocks: no batch of small products."""
        source = x
        for factor in range(N - 1, -1, -1):
            blocks = groups(source, factor).reshape(T, D, b) if factor else source.view(T, D, b)
            to = pong.view(T, D, b) if factor else turned.view(T, D, b)
            for j in range(b):
                torch.mul(blocks[:, :, 0], rotations[factor, :, 0, j], out=to[:, :, j])
                for i in range(1, b):
                    to[:, :, j].addcmul_(blocks[:, :, i], rotations[factor, :, i, j])
            if factor:
                groups(ping, factor).copy_(to.view(T, D >> factor, 1 << factor, 2, b // 2))
                source = ping
        y.mul_(s)

    with torch.inference_mode():
        dense = torch.eye(n)
        for factor in range(N - 1, -1, -1):
            T_, T = T, n
            dense = turn(dense, rotations[factor], factor)
            T = T_

    def by_dense():
        torch.mm(x, dense, out=turned)
        y.mul_(s)

    reference = x.double()
    for factor in range(N - 1, -1, -1):
        reference = turn(reference, exact[factor], factor)
    candidates = [
        bench.ours("graft", result, ("graft_boft_transform_input", boft, x, turned), ("graft_boft_transform_output", boft, y, None)),
        bench.python(
            "PEFT's layer, which makes its rotation on each call", "peer", layer_forward, lambda: [layer.base_layer.seen, seen["y"]]
        ),
        bench.python("bmm(out=) of each factor's blocks", "best", by_blocks, result),
        bench.python("addcmul_ of each factor's elements", "best", by_terms, result),
        bench.python("mm(out=) with the dense rotation, made once", "best", by_dense, result),
    ]
    return Problem(candidates, [reference, y0.double() * s.double()], 2e-5, lambda: y.copy_(y0))


def cayley(row, bench):
    from peft.tuners.oft.layer import OFTRotationModule

    D, b = row.sizes["D"], row.sizes["b"]
    skew, R = _normal(D, b * (b - 1) // 2, scale=0.02), torch.empty(D, b, b)
    result = lambda: [R]
    module = OFTRotationModule(D, b * (b - 1) // 2, b, D * b, use_cayley_neumann=False).eval()
    rows, columns = torch.triu_indices(b, b, 1)
    upper, lower = rows * b + columns, columns * b + rows
    plus, minus, inverse, info = (
        torch.eye(b).repeat(D, 1, 1),
        torch.eye(b).repeat(D, 1, 1),
        torch.empty(D, b, b),
        torch.empty(D, dtype=torch.int32),
    )
    negative = torch.empty_like(skew)
    eye = torch.eye(b)
    seen = {}

    def peft():
        seen["R"] = module._cayley_batch(skew, b, use_cayley_neumann=False)

    def fill():
        torch.neg(skew, out=negative)
        plus.view(D, -1).index_copy_(1, upper, skew).index_copy_(1, lower, negative)

    def solve():
        fill()
        minus.view(D, -1).index_copy_(1, upper, negative).index_copy_(1, lower, skew)
        seen["R"] = torch.linalg.solve_ex(plus, minus, left=False)[0]

    def invert():
        fill()
        torch.linalg.inv_ex(plus, out=(inverse, info))
        torch.sub(inverse.mul_(2), eye, out=R)

    candidates = [
        bench.ours("graft", result, ("graft_cayley", skew, 0, R)),
        bench.python("PEFT's _cayley_batch, exact", "peer", peft, lambda: [seen["R"]]),
        bench.python("solve_ex", "best", solve, lambda: [seen["R"]]),
        bench.python("2 inv_ex(out=) - 1", "best", invert, result),
    ]
    with torch.inference_mode():
        Q = module._pytorch_skew_symmetric(skew.double(), b)
        one = torch.eye(b, dtype=torch.float64)
        reference = torch.linalg.solve(one + Q, (one - Q).expand(D, b, b), left=False)
    return Problem(candidates, [reference], 1e-5)


# --- routing


def gate(row, bench):
    T, E, k = (row.sizes[name] for name in ("T", "E", "k"))
    logits = _normal(T, E)
    values, ids, weights = torch.empty(T, k), torch.empty(T, k, dtype=torch.int64), torch.empty(T, k)
    result = lambda: [ids, weights]
    seen = {}

    def softmax_first():
        p = torch.softmax(logits, dim=-1, dtype=torch.float32)
        w, chosen = torch.topk(p, k, dim=-1)
        seen["w"] = w / w.sum(dim=-1, keepdim=True)
        seen["ids"] = chosen

    def topk_first():
        torch.topk(logits, k, dim=1, out=(values, ids))
        torch.softmax(values, 1, out=weights)

    def maxima():
        for s in range(k):
            torch.max(logits, 1, out=(values[:, s], ids[:, s]))
            if s + 1 < k:
                logits.scatter_(1, ids[:, s : s + 1], -math.inf)
        logits.scatter_(1, ids, values)
        torch.softmax(values, 1, out=weights)

    candidates = [
        bench.ours("graft", result, ("graft_route", graft_c.topk_softmax(), logits, None, ids, weights, None)),
        bench.python("softmax, topk, / sum", "peer", softmax_first, lambda: [seen["ids"], seen["w"]]),
        bench.python("topk(out=), softmax(out=)", "best", topk_first, result),
        bench.python("k times max(out=) and scatter_", "best", maxima, result),
    ]
    candidates += bench.libtorch("topk(out=), softmax(out=) in C++", "torch_loops_gate", result, logits, values, ids, weights, T, E, k)
    best, chosen = torch.topk(logits.double(), k, dim=1)
    return Problem(candidates, [chosen.double(), torch.softmax(best, 1)], 1e-6)


def _routing(row, bench):
    T, k, E, H = (row.sizes[name] for name in ("T", "k", "E", "H"))
    ids = torch.topk(torch.randn(T, E), k, dim=1)[1]
    plan, memory = bench.graft.plan(ids, E, lambda size: torch.empty(size, dtype=torch.uint8))

    def array(address, count):
        at = address - memory.data_ptr()
        return memory[at : at + 8 * count].view(torch.int64).clone()

    plan.kept = memory
    return plan, array(plan.row_tokens, T * k), array(plan.inverse, T * k)


def dispatch(row, bench):
    T, k, H = (row.sizes[name] for name in ("T", "k", "H"))
    plan, tokens, _ = _routing(row, bench)
    x, rows = _normal(T, H), torch.empty(T * k, H)
    tokens32 = tokens.int()
    result = lambda: [rows]
    seen = {}

    def indexed():
        seen["rows"] = x[tokens]

    candidates = [
        bench.ours("graft", result, ("graft_dispatch", plan, x, None, rows)),
        bench.python("x[tokens]", "peer", indexed, lambda: [seen["rows"]]),
        bench.python("index_select(out=)", "best", lambda: torch.index_select(x, 0, tokens, out=rows), result),
        bench.python("index_select(out=), int32", "best", lambda: torch.index_select(x, 0, tokens32, out=rows), result),
    ]
    return Problem(candidates, [x.double()[tokens]], 0.0)


def combine(row, bench):
    T, k, H = (row.sizes[name] for name in ("T", "k", "H"))
    plan, tokens, inverse = _routing(row, bench)
    rows, weights, y = _normal(T * k, H), torch.softmax(torch.randn(T, k), 1), torch.empty(T, H)
    of_rows = torch.empty(T * k)
    of_rows[inverse] = weights.flatten()
    gathered, inverse2 = torch.empty(T * k, H), inverse.view(T, k)
    result = lambda: [y]
    seen = {}

    def index_add():
        seen["y"] = torch.zeros(T, H).index_add_(0, tokens, rows * of_rows[:, None])

    def gather_sum():
        seen["y"] = (rows[inverse].view(T, k, H) * weights[:, :, None]).sum(1)

    def gather_bmm():
        torch.index_select(rows, 0, inverse, out=gathered)
        torch.bmm(weights.view(T, 1, k), gathered.view(T, k, H), out=y.view(T, 1, H))

    def bag():
        seen["y"] = F.embedding_bag(inverse2, rows, per_sample_weights=weights, mode="sum")

    candidates = [
        bench.ours("graft", result, ("graft_combine", plan, rows, weights, y)),
        bench.python("zeros, index_add_ of rows * w", "peer", index_add, lambda: [seen["y"]]),
        bench.python("gather, * w, sum", "other", gather_sum, lambda: [seen["y"]]),
        bench.python("index_select(out=), bmm(out=)", "best", gather_bmm, result),
        bench.python("embedding_bag with weights", "best", bag, lambda: [seen["y"]]),
    ]
    reference = (rows.double()[inverse].view(T, k, H) * weights.double()[:, :, None]).sum(1)
    return Problem(candidates, [reference], 1e-5)


def problem_of(row, bench, seed):
    torch.manual_seed(seed)
    bench.use(row.threads)
    return globals()[row.operation](row, bench)


def check(problem):
    """Raises where a candidate is not what float64 says."""
    for candidate in problem.candidates:
        for reset in (problem.reset, problem.reset_for_check):
            if reset is not None:
                reset()
        candidate.call(1)
        for index, (got, wanted) in enumerate(zip(candidate.result(), problem.reference, strict=True)):
            error = (got.detach().double() - wanted).abs().max().item()
            largest = wanted.abs().max().item()
            if not error <= problem.tolerance * largest:
                raise RuntimeError(
                    f"{candidate.name}: result {index} is off by {error / largest:.1e} of the largest value, {problem.tolerance:.0e} is allowed"
                )
