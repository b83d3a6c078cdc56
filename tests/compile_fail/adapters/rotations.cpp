// expect: graft: this boft or oft has no rotations; give it memory for them: with_rotations(adapter, view), then update_rotations(ex, adapter)
// expect: graft::boft: parameters and rotations must be views of four dimensions, [factors, blocks, b, b]
// expect: graft::adapted_linear: an adapter that scales the output but not the base's bias stands after one that scales both; put it before
// expect: graft::kernels::rotate_blocks: R must have rank 4
// expect: graft::kernels::cayley: R is written, so its elements must not be const
// expect: graft::kernels::cayley: parameters must have rank 2 (packed) or 3 (square)
// expect: graft::boft, oft: the first argument must be an executor
// expect: graft::ia3: l must be a vector view; wrap the data: graft::view(pointer, size)
// expect: graft: this road has no factors; give it memory for them: with_factors(adapter, view), then update_factors(ex, adapter)
// expect: graft::backward: an rms_norm has no bias, so there is no gradient of one
#include "support/mistakes.hpp"

graft::serial const ex;
matrix const m;
vector const v;
using four = decltype(graft::view(static_cast<float*>(nullptr), 2, 2, 2, 2));
using three = decltype(graft::view(static_cast<float*>(nullptr), 2, 2, 2));
using three_const = decltype(graft::view(static_cast<float const*>(nullptr), 2, 2, 2));
using boft = graft::boft<four, vector, four>;
using bare_boft = graft::boft<four, vector>;
using ia3 = graft::ia3<vector>;
using dora = graft::dora<lora, vector, vector>;
using road = graft::road<vector, vector, matrix>;
using bare_road = graft::road<vector, vector>;
using none = graft::none_t;
struct forward {
  template <class X, class Y>
  void operator()(X const&, Y const&) const {}
};

void f1(either<boft, bare_boft> a) { graft::transform_input(ex, a, m, m); }
constexpr auto f2 = sizeof(graft::boft<either<four, three>, vector>);
void f3(either<ia3, dora> last, ia3 a) { graft::adapted_linear(ex, forward{}, a, last, m, m); }
void f4(either<four, three> r) { graft::kernels::rotate_blocks(ex, m, r, m); }
void f5(either<three, three_const> r) { graft::kernels::cayley(ex, m, r); }
void f6(either<three, four> p, three r) { graft::kernels::cayley(ex, p, r); }
void f7(either<graft::serial, boft> e, boft a) { graft::transform_input(e, a, m, m); }
constexpr auto f8 = sizeof(graft::ia3<either<vector, matrix>>);
void f9(either<road, bare_road> a) { graft::merge(ex, a, m); }
void f10(graft::norm_gradients<vector, either<none, vector>> g) {
  graft::backward(ex, graft::rms_norm<vector>{v}, m, m, g, m);
}
