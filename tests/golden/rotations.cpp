// SPDX-License-Identifier: Apache-2.0
/// Cases of `boft`, `oft` and `hra`: rotations of what goes into the layer, forward, backward and merged.
#include "linear.hpp"

namespace golden {
namespace {

/// R as one matrix: what becomes of the rows of the identity.
template <class A>
void add_rotation(results& out, A const& a, index_t n) {
  std::vector<float> r(static_cast<std::size_t>(n * n));
  for (index_t i = 0; i < n; ++i) r[static_cast<std::size_t>(i * n + i)] = 1.0F;
  graft::transform_input(ex, a, graft::view(r, n, n), graft::view(r, n, n));
  out.add("R", {n, n}, r);
}

results boft(test_case const& c) {
  auto const base = linear_of<float>(c);
  auto const parameters = c.input<float>("boft_R", 4);
  auto const s = c.input<float>("boft_s");
  auto const& shape = parameters.shape;
  if (shape.size() != 4) throw bad_case("boft_R" + shape_text(shape) + " has not four dimensions");
  index_t const factors = shape[0], blocks = shape[1], b = shape[2];
  auto const view4 = [&](auto* data) {
    return graft::view(data, graft::dynamic_extents<4>(factors, blocks, b, shape[3]),
                       {blocks * b * shape[3], b * shape[3], shape[3], 1});
  };
  std::vector<float> rotations(parameters.data.size()), dparameters(parameters.data.size()), ds(s.data.size()), kept;
  graft::boft const a{view4(parameters.data.data()), graft::view(s.data), view4(rotations.data())};
  graft::update_rotations(ex, a);
  results out;
  std::vector<std::int32_t> perm;
  for (index_t f = 0; f < factors; ++f) {
    std::vector<std::int32_t> of_factor(static_cast<std::size_t>(blocks * b));
    for (index_t e = 0; e < blocks * b; ++e)
      of_factor[static_cast<std::size_t>(graft::kernels::block_feature(f, b, e / b, e % b))] =
          static_cast<std::int32_t>(e);
    perm.insert(perm.end(), of_factor.begin(), of_factor.end());
  }
  out.add("perm", {factors, blocks * b}, perm);
  add_rotation(out, a, a.in_features());
  add_adapted_weights(out, base, a);
  if (c.has("x")) {
    kept.resize(static_cast<std::size_t>(c.input<float>("x").rows() * base.out()));
    add_adapted_pass(out, c, base,
                     graft::trained{a, graft::boft_gradients{view4(dparameters.data()), graft::view(ds)},
                                    graft::view(kept, static_cast<index_t>(kept.size()) / base.out(), base.out())});
  }
  out.add("grad.boft_R", shape, dparameters);
  out.add("grad.boft_s", s.shape, ds);
  return out;
}

results oft(test_case const& c) {
  auto const base = linear_of<float>(c);
  auto parameters = c.input<float>("oft_R", 2);
  index_t const b = c.config.at("block_size").get<index_t>();
  index_t const rows = parameters.rows();
  std::vector<float> rotations(static_cast<std::size_t>(rows * b * b)), dparameters(parameters.data.size());
  bool const series = c.config.value("use_cayley_neumann", true);
  graft::oft const a{graft::view(parameters.data.data(), rows, parameters.columns()), base.in(), b,
                     series ? c.config.value("num_cayley_neumann_terms", 5) : 0,
                     graft::view(rotations.data(), graft::dynamic_extents<3>(rows, b, b), {b * b, b, 1})};
  results out;
  if (c.config.value("coft", false)) {
    graft::project(ex, a, c.config.at("eps").get<double>());
    out.add("oft_R.projected", parameters.shape, parameters.data);
  }
  graft::update_rotations(ex, a);
  add_rotation(out, a, base.in());
  add_adapted_weights(out, base, a);
  if (c.has("x"))
    add_adapted_pass(out, c, base,
                     graft::trained{a, graft::oft_gradients{graft::view(dparameters, rows, parameters.columns())}, {}});
  out.add("grad.oft_R", parameters.shape, dparameters);
  return out;
}

results hra(test_case const& c) {
  auto const base = linear_of<float>(c);
  auto const u = c.input<float>("hra_u", 2);
  index_t const n = u.rows(), r = u.columns();
  std::vector<float> vectors(u.data.size()), spread(u.data.size()), du(u.data.size()),
      rotation(static_cast<std::size_t>(n * n));
  graft::hra const a{u.matrix(), c.config.value("apply_GS", false), graft::view(vectors, r, n),
                     graft::view(spread, n, r)};
  graft::update_reflections(ex, a);
  results out;
  for (index_t i = 0; i < n; ++i) rotation[static_cast<std::size_t>(i * n + i)] = 1.0F;
  graft::merge(ex, a, graft::view(rotation, n, n));
  out.add("R", {n, n}, rotation);
  add_adapted_weights(out, base, a);
  if (c.has("x")) add_adapted_pass(out, c, base, graft::trained{a, graft::hra_gradients{graft::view(du, n, r)}, {}});
  out.add("grad.hra_u", u.shape, du);
  return out;
}

registration const reflections{"hra", hra};
registration const butterfly{"boft", boft};
registration const orthogonal{"oft", oft};

}  // namespace
}  // namespace golden
