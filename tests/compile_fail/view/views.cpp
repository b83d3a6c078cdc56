// expect: graft::tensor_view: elements are float, double, graft::bfloat16 or graft::float16
// expect: graft::extents: an extent is graft::dynamic or not negative
// expect: graft::tensor_view: a static extent can only be taken from a view that has the same static extent
// expect: graft: a scale must be a floating-point number, since alpha / r of two integers truncates
// expect: no matching function for call to
#include "support/mistakes.hpp"

graft::tensor_view<either<float, short>, graft::dynamic_extents<2>> a;

graft::extents<graft::dynamic, either<std::integral_constant<int, 16>, std::integral_constant<int, -16>>::value> b;

using sixteen = graft::extents<graft::dynamic, 16>;
graft::tensor_view<float, either<sixteen, graft::extents<graft::dynamic, 32>>> c(graft::tensor_view<float, sixteen> v) {
  return v;
}

graft::scaling d(either<double, int> alpha) { return alpha / 32; }

// Data of a temporary vector would be gone after the statement; there is no such `view`.
std::vector<float> data(6);
auto e = graft::view(static_cast<either<std::vector<float>&, std::vector<float>>>(data), 2, 3);
