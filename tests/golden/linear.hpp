// SPDX-License-Identifier: Apache-2.0
/// @file
/// What cases of linear adapters share: the frozen layer y = x W^T + bias, which is not graft's job (plain sums in double,
/// rounded to fp32 once), and the low-rank adapters that a case names.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <graft/graft.hpp>
#include <graft/openmp.hpp>

#include "checker.hpp"

namespace golden {

inline graft::openmp const ex{};

template <class T>
class linear {
 public:
  linear(given<T> w, std::optional<given<T>> b, bool fan_in_fan_out)
      : W(std::move(w)), bias(std::move(b)), fan_in_fan_out_(fan_in_fan_out) {
    if (W.shape.size() != 2) throw bad_case("W" + shape_text(W.shape) + " is not a matrix");
    if (bias && bias->shape != shape_t{out()})
      throw bad_case("bias" + shape_text(bias->shape) + " does not fit W" + shape_text(W.shape));
  }

  given<T> W;
  std::optional<given<T>> bias;

  [[nodiscard]] index_t in() const { return W.shape[fan_in_fan_out_ ? 0 : 1]; }
  [[nodiscard]] index_t out() const { return W.shape[fan_in_fan_out_ ? 1 : 0]; }

  /// x W^T + bias.
  [[nodiscard]] std::vector<float> output(given<T> const& x) const {
    expects_columns("x", x, in());
    return product(x, out(), bias ? bias->data.data() : nullptr, out_stride(), in_stride());
  }
  /// dy W.
  [[nodiscard]] std::vector<float> input_gradient(given<T> const& dy) const {
    expects_columns("dy", dy, out());
    return product(dy, in(), nullptr, in_stride(), out_stride());
  }
  /// y = x W^T and dx += dy W without the bias, on views, for graft::base_layer. Sums in double, rounded once.
  template <class X, class Y>
  void forward(X const& x, Y const& y) const {
    multiply(x, y, out_stride(), in_stride(), false);
  }
  template <class DY, class DX>
  void backward(DY const& dy, DX const& dx) const {
    multiply(dy, dx, in_stride(), out_stride(), true);
  }
  /// f(w as [out, in]), `w` being stored as W is.
  template <class U, class F>
  void with_weight(std::vector<U>& w, F const& f) const {
    auto const stored = graft::view(w.data(), W.shape[0], W.shape[1]);
    if (fan_in_fan_out_) f(graft::transposed(stored));
    else f(stored);
  }

 private:
  template <class L, class R>
  void multiply(L const& left, R const& right, index_t step, index_t inner_step, bool adds) const {
    for (index_t t = 0; t < right.extent(0); ++t)
      for (index_t j = 0; j < right.extent(1); ++j) {
        double sum = adds ? static_cast<double>(right(t, j)) : 0.0;
        for (index_t k = 0; k < left.extent(1); ++k)
          sum += static_cast<double>(left(t, k)) *
                 graft::load_as<double>(W.data[static_cast<std::size_t>(j * step + k * inner_step)]);
        right(t, j) = static_cast<float>(sum);
      }
  }
  [[nodiscard]] index_t out_stride() const { return fan_in_fan_out_ ? 1 : W.shape[1]; }
  [[nodiscard]] index_t in_stride() const { return fan_in_fan_out_ ? W.shape[1] : 1; }
  static void expects_columns(char const* name, given<T> const& v, index_t columns) {
    if (v.columns() != columns) throw bad_case(name + shape_text(v.shape) + " does not fit W");
  }
  [[nodiscard]] std::vector<float> product(given<T> const& left, index_t columns, T const* add, index_t step,
                                           index_t inner_step) const {
    std::vector<float> y(static_cast<std::size_t>(left.rows() * columns));
    index_t const inner = left.columns();
    for (index_t t = 0; t < left.rows(); ++t)
      for (index_t j = 0; j < columns; ++j) {
        double sum = add != nullptr ? graft::load_as<double>(add[j]) : 0.0;
        for (index_t k = 0; k < inner; ++k)
          sum += graft::load_as<double>(left.data[static_cast<std::size_t>(t * inner + k)]) *
                 graft::load_as<double>(W.data[static_cast<std::size_t>(j * step + k * inner_step)]);
        y[static_cast<std::size_t>(t * columns + j)] = static_cast<float>(sum);
      }
    return y;
  }

  bool fan_in_fan_out_;
};

/// The layer as graft::base_layer takes it; the bias is added where the case has one.
template <class F>
void with_base(linear<float> const& l, F const& f) {
  auto const forward = [&l](auto const& x, auto const& y) { l.forward(x, y); };
  auto const backward = [&l](auto const& dy, auto const& dx) { l.backward(dy, dx); };
  if (l.bias) f(graft::base_layer{forward, backward, l.bias->vector(), graft::none});
  else f(graft::base_layer{forward, backward, graft::none, graft::none});
}

/// The layer of a case: W, bias when it is there, the layout of the configuration.
template <class T>
[[nodiscard]] linear<T> linear_of(test_case const& c) {
  bool const layout = c.config.value("W_layout", std::string("[out,in]")) == "[in,out]";
  std::optional<given<T>> bias;
  if (c.has("bias")) bias = c.input<T>("bias");
  return {c.input<T>("W", 2), std::move(bias), c.config.value("fan_in_fan_out", layout)};
}

/// A[r, n], B[m, r], perhaps a bias[m], and their scale. `suffix` is what follows the names of its tensors.
template <class T>
struct low_rank {
  std::string suffix;
  given<T> A;
  given<T> B;
  std::string bias_name;  ///< Empty without a bias.
  given<T> bias;
  double scale = 1;

  /// f(the views as a graft::lora, with the bias when there is one).
  template <class F>
  void with_lora(F const& f) const {
    if (bias_name.empty()) f(graft::lora{A.matrix(), B.matrix(), scale, {}});
    else f(graft::lora{A.matrix(), B.matrix(), scale, bias.vector()});
  }
};

/// alpha / r or alpha / sqrt(r) as graft computes it; a `scaling` that differs breaks the case.
[[nodiscard]] inline double scale_of(nlohmann::json const& settings, index_t r) {
  if (!settings.contains("lora_alpha")) return settings.at("scaling").get<double>();
  double const alpha = settings["lora_alpha"].get<double>();
  double const scale =
      settings.value("use_rslora", false) ? graft::rslora_scale(alpha, r) : graft::lora_scale(alpha, r);
  double const stated = settings.value("scaling", scale);
  if (!(std::abs(stated - scale) <= 1e-12 * std::abs(scale)))
    throw bad_case("scaling " + std::to_string(stated) + " is not what lora_alpha and r give");
  return scale;
}

/// The adapters in the order of the configuration: a list `adapters`, or one whose settings are the configuration itself.
/// `names` is what precedes A and B; A holds as many times the rank as there are experts.
template <class T>
[[nodiscard]] std::vector<low_rank<T>> low_rank_of(test_case const& c, std::string const& names = "lora_",
                                                   index_t experts = 1) {
  auto const list = c.config.value("adapters", nlohmann::json::array({c.config}));
  std::vector<low_rank<T>> out;
  for (auto const& settings : list) {
    low_rank<T> a;
    std::string const named = "." + settings.value("name", std::string("default"));
    a.suffix = c.has(names + "A" + named) || list.size() > 1 ? named : "";
    a.A = c.input<T>(names + "A" + a.suffix, 2);
    a.B = c.input<T>(names + "B" + a.suffix, 2);
    for (auto const& bias : {"lora_B.bias" + a.suffix, "lora_B" + a.suffix + ".bias", "lora_bias" + a.suffix})
      if (c.has(bias)) a.bias_name = bias;
    if (!a.bias_name.empty()) a.bias = c.input<T>(a.bias_name);
    else if (settings.value("lora_bias", false)) throw bad_case("lora_bias is set but there is no lora_B.bias");
    a.scale = scale_of(settings, a.A.rows() / experts);
    out.push_back(std::move(a));
  }
  return out;
}

/// merged.W and, where a bias takes part, merged.bias: successive merges in fp32. delta.W: the sum of the deltas.
inline void add_merged(results& out, linear<float> const& base, std::vector<low_rank<float>> const& adapters) {
  auto w = base.W.data;
  auto d = std::vector<float>(w.size());
  auto bias = base.bias ? base.bias->data : std::vector<float>(static_cast<std::size_t>(base.out()));
  bool first = true;
  for (auto const& a : adapters)
    a.with_lora([&](auto const& l) {
      base.with_weight(w, [&](auto const& view) { graft::merge(ex, l, view, graft::view(bias)); });
      base.with_weight(d, [&](auto const& view) {
        graft::lora const no_bias{l.A, l.B, l.scale, {}};
        if (std::exchange(first, false)) graft::delta_weight(ex, no_bias, view);
        else graft::merge(ex, no_bias, view);
      });
    });
  out.add("merged.W", base.W.shape, w);
  out.add("delta.W", base.W.shape, d);
  out.add("merged.bias", {base.out()}, bias);
}

/// merged.W, merged.bias and delta.W of one adapter; the bias is taken along by those that scale it.
template <class A>
void add_adapted_weights(results& out, linear<float> const& base, A const& a) {
  auto w = base.W.data;
  auto bias = base.bias ? base.bias->data : std::vector<float>(static_cast<std::size_t>(base.out()));
  base.with_weight(w, [&](auto const& view) {
    if constexpr (requires { graft::merge(ex, a, view, graft::view(bias)); })
      graft::merge(ex, a, view, graft::view(bias));
    else graft::merge(ex, a, view);
  });
  out.add("merged.W", base.W.shape, w);
  out.add("merged.bias", {base.out()}, bias);
  auto original = base.W.data;
  auto d = std::vector<float>(w.size());
  base.with_weight(original, [&](auto const& W) {
    base.with_weight(d, [&](auto const& D) { graft::delta_weight(ex, a, graft::as_const(W), D); });
  });
  out.add("delta.W", base.W.shape, d);
}

/// y and, where a gradient is given, grad.x of the layer with one trained adapter; its own gradients go where it says.
template <class Trained>
void add_adapted_pass(results& out, test_case const& c, linear<float> const& base, Trained const& trained) {
  auto const x = c.input<float>("x");
  std::vector<float> y(static_cast<std::size_t>(x.rows() * base.out()));
  with_base(base, [&](auto const& layer) {
    graft::adapted_linear(ex, layer, trained, x.matrix(), graft::view(y, x.rows(), base.out()));
  });
  out.add("y", x.shape_with(base.out()), y);
  if (!c.has("dy")) return;
  auto dy = c.input<float>("dy");
  std::vector<float> dx(static_cast<std::size_t>(x.rows() * base.in()));
  with_base(base, [&](auto const& layer) {
    graft::adapted_linear_backward(ex, layer, trained, x.matrix(), graft::view(dy.data, dy.rows(), base.out()),
                                   graft::view(dx, x.rows(), base.in()));
  });
  out.add("grad.x", dy.shape_with(base.in()), dx);
}

}  // namespace golden
