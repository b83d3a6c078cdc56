// SPDX-License-Identifier: Apache-2.0
/// Cases of `lora_dtype`: 16-bit layers and adapters. Everything is computed in fp32 on the stored values and rounded once.
#include "linear.hpp"

namespace golden {
namespace {

template <class T>
struct type_tag {
  using type = T;
};

template <class F>
void with_type(graft::io::dtype type, std::string const& what, F const& f) {
  switch (type) {
    case graft::io::dtype::f32: return f(type_tag<float>{});
    case graft::io::dtype::bf16: return f(type_tag<graft::bfloat16>{});
    case graft::io::dtype::f16: return f(type_tag<graft::float16>{});
    default: throw skip(what + " is neither of 16 bits nor fp32");
  }
}

graft::io::dtype output_type(std::string const& name) {
  if (name == "bfloat16") return graft::io::dtype::bf16;
  if (name == "float16") return graft::io::dtype::f16;
  return name == "float32" ? graft::io::dtype::f32 : graft::io::dtype::other;
}

/// The type of those of these tensors that are there; fp32, which holds them all, where they differ.
graft::io::dtype common_type(test_case const& c, std::vector<std::string> const& names) {
  auto type = graft::io::dtype::other;
  for (auto const& n : names)
    if (c.has(n)) type = type == graft::io::dtype::other || type == c.type(n) ? c.type(n) : graft::io::dtype::f32;
  return type;
}

template <class Out, class From>
std::vector<Out> rounded(std::vector<From> const& values) {
  std::vector<Out> out;
  out.reserve(values.size());
  for (From const v : values) out.push_back(graft::store_as<Out>(graft::load_as<float>(v)));
  return out;
}

template <class Base, class Adapter, class Out>
results computed(test_case const& c) {
  auto const base = linear_of<Base>(c);
  auto const adapters = low_rank_of<Adapter>(c);
  results out;
  auto const merge_into = [&](auto& w) {  // in W's own type when that is what is asked for
    if (adapters.size() != 1) throw skip("several adapters would round a 16-bit weight several times");
    adapters[0].with_lora([&](auto const& l) {
      base.with_weight(w, [&](auto const& view) { graft::merge(ex, graft::lora{l.A, l.B, l.scale, {}}, view); });
    });
  };
  if constexpr (std::is_same_v<Base, Out>) {
    auto w = base.W.data;
    merge_into(w);
    out.add("merged.W", base.W.shape, w);
  } else {
    auto w = rounded<float>(base.W.data);
    merge_into(w);
    out.add("merged.W", base.W.shape, rounded<Out>(w));
  }
  if (!c.has("x")) return out;
  auto const x = c.input<Base>("x");
  auto y = base.output(x);
  for (auto const& a : adapters)
    a.with_lora([&](auto const& l) { graft::add_delta(ex, l, x.matrix(), graft::view(y, x.rows(), base.out())); });
  out.add("y", x.shape_with(base.out()), rounded<Out>(y));
  return out;
}

results lora_dtype(test_case const& c) {
  results out;
  std::string const wanted = c.config.at("output_dtype").get<std::string>();
  with_type(common_type(c, {"W", "x", "bias"}), "the layer", [&]<class Base>(type_tag<Base>) {
    with_type(common_type(c, {"lora_A", "lora_B", "lora_B.bias"}), "the adapter",
              [&]<class Adapter>(type_tag<Adapter>) {
                with_type(output_type(wanted), "output_dtype " + printable(wanted),
                          [&]<class Out>(type_tag<Out>) { out = computed<Base, Adapter, Out>(c); });
              });
  });
  return out;
}

registration const registered{"lora_dtype", lora_dtype};

}  // namespace
}  // namespace golden
