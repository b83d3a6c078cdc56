// A configuration, a zero byte and a safetensors file: refused, or every module is handed out and all its elements are read.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include <graft/io/peft_checkpoint.hpp>

namespace {

/// Of every element; extents may be anything where there is none.
template <class View>
double sum_of(View const& v) {
  double sum = 0;
  if (v.size() == 0) return sum;
  auto const go = [&](auto const& self, auto... at) {
    if constexpr (sizeof...(at) == View::rank()) sum += graft::load_as<double>(v(at...));
    else
      for (graft::index_t i = 0; i < v.extent(sizeof...(at)); ++i) self(self, at..., i);
  };
  go(go);
  return sum;
}
template <class A>
double bias_of([[maybe_unused]] A const& a) {
  if constexpr (requires { requires A::has_bias; }) return sum_of(a.bias);
  else return 0;
}
struct read_all {
  template <class A>
  double operator()(A const& a) const {
    if constexpr (requires { a.magnitude; }) return (*this)(a.low_rank) + sum_of(a.magnitude);
    else if constexpr (requires { a.d; }) return sum_of(a.A) + sum_of(a.B) + sum_of(a.d) + sum_of(a.b);
    else if constexpr (requires { a.factors(); }) return sum_of(a.parameters) + sum_of(a.s);
    else if constexpr (requires { a.terms; }) return sum_of(a.parameters);
    else if constexpr (requires { a.gram_schmidt; }) return sum_of(a.u);
    else if constexpr (requires { a.l; }) return sum_of(a.l);
    else return sum_of(a.A) + sum_of(a.B) + bias_of(a);
  }
  /// A layer of normalisation: its weight, and its bias or graft::none.
  template <class W, class B>
  double operator()(W const& weight, B const& bias) const {
    if constexpr (std::is_same_v<B, graft::none_t>) return sum_of(weight);
    else return sum_of(weight) + sum_of(bias);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  std::size_t const zero = text.find('\0');
  if (zero == std::string_view::npos) return 0;
  using graft::io::adapter_kind;
  try {
    auto config = graft::io::adapter_config::parse(text.substr(0, zero), "config");
    if (config.peft_type == "VERA" && config.r > 1 << 16) return 0;  // what it asks for is memory
    auto c = graft::io::peft_checkpoint::parse(
        std::move(config), "config",
        graft::io::safetensors_file::parse({reinterpret_cast<std::byte const*>(data) + zero + 1, size - zero - 1},
                                           "tensors"));
    if (!c.has_projections()) c.replay_projections(17);
    double sum = 0;
    for (auto const& m : c.modules()) {
      if (m.kind == adapter_kind::lora_experts) sum += c.visit_experts(m.name, read_all{});
      else if (m.kind == adapter_kind::lora_embedding || m.kind == adapter_kind::dora_embedding)
        sum += c.visit_embedding(m.name, read_all{});
      else if (m.kind == adapter_kind::ln_tuning) sum += c.visit_norm(m.name, read_all{});
      else if (m.kind == adapter_kind::oft && m.in_features == 0)  // blocks that are shared, here among three
        sum += c.visit(m.name, read_all{}, 3 * m.block_size);
      else sum += c.visit(m.name, read_all{});
    }
    for (auto const& [base, stored] : c.replaced()) sum += static_cast<double>(c.replaced_info(base).size());
    static_cast<void>(sum);
  } catch (graft::error const&) {  // the only way out
  }
  return 0;
}
