// SPDX-License-Identifier: Apache-2.0
/// @file
/// Parameters with Adam, and experts of two layers whose products are Eigen's.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <type_traits>

#include <Eigen/Core>
#include <graft/eigen.hpp>
#include <graft/graft.hpp>

#include "digits.hpp"

namespace moe {

/// A view of rows as Eigen's map.
template <class View>
[[nodiscard]] auto mapped(View const& v) {
  using kind = std::conditional_t<std::is_const_v<typename View::element_type>, matrix const, matrix>;
  return Eigen::Map<kind, 0, Eigen::OuterStride<>>(v.data_handle(), v.extent(0), v.extent(1),
                                                   Eigen::OuterStride<>(v.stride(0)));
}

struct parameter {
  matrix value, gradient, mean, square;
};

/// Everything that is trained; what `add` gives stays where it is.
class parameters {
 public:
  explicit parameters(std::uint64_t seed) : seed_(seed) {}

  /// Uniform in +-limit, each from a stream of its own.
  parameter& add(Eigen::Index rows, Eigen::Index columns, float limit) {
    parameter& p = all_.emplace_back();
    for (matrix* const m : {&p.value, &p.gradient, &p.mean, &p.square}) m->setZero(rows, columns);
    graft::kernels::fill_uniform(graft::serial{}, {.seed = seed_, .stream = all_.size()}, graft::view(p.value),
                                 static_cast<double>(limit));
    return p;
  }
  void clear_gradients() {
    for (parameter& p : all_) p.gradient.setZero();
  }
  /// Adam (Kingma and Ba 2014, arXiv 1412.6980).
  void step(float rate) {
    constexpr float of_mean = 0.9F, of_square = 0.999F;
    ++steps_;
    float const unbiased_mean = 1 - std::pow(of_mean, static_cast<float>(steps_));
    float const unbiased_square = 1 - std::pow(of_square, static_cast<float>(steps_));
    for (parameter& p : all_)
      for (Eigen::Index i = 0; i < p.value.size(); ++i) {
        float const g = p.gradient.data()[i];
        float& m = p.mean.data()[i];
        float& s = p.square.data()[i];
        m = of_mean * m + (1 - of_mean) * g;
        s = of_square * s + (1 - of_square) * g * g;
        p.value.data()[i] -= rate * (m / unbiased_mean) / (std::sqrt(s / unbiased_square) + 1e-8F);
      }
  }
  /// A number that tells different bits apart (FNV-1a).
  [[nodiscard]] std::uint64_t fingerprint() const {
    std::uint64_t hash = 0xCBF29CE484222325U;
    for (parameter const& p : all_)
      for (Eigen::Index i = 0; i < p.value.size(); ++i)
        hash = (hash ^ std::bit_cast<std::uint32_t>(p.value.data()[i])) * 0x100000001B3U;
    return hash;
  }

 private:
  std::uint64_t seed_;
  int steps_ = 0;
  std::deque<parameter> all_;
};

/// Experts e: out = max(0, in W1_e^T + b1_e) W2_e^T + b2_e.
class experts {
 public:
  experts(parameters& all, int count, Eigen::Index inputs, Eigen::Index hidden, Eigen::Index outputs)
      : hidden_(hidden),
        outputs_(outputs),
        W1_(all.add(count * hidden, inputs, limit(inputs))),
        b1_(all.add(count, hidden, 0)),
        W2_(all.add(count * outputs, hidden, limit(hidden))),
        b2_(all.add(count, outputs, 0)) {}

  [[nodiscard]] Eigen::Index hidden() const { return hidden_; }

  /// `middle` are the values of the hidden layer, which backward needs.
  void forward(graft::index_t e, auto const& in, auto const& middle, auto const& out) const {
    auto a = mapped(middle), y = mapped(out);
    a.noalias() = mapped(in) * W1_.value.middleRows(e * hidden_, hidden_).transpose();
    a.rowwise() += b1_.value.row(e);
    a = a.cwiseMax(0.0F);
    y.noalias() = a * W2_.value.middleRows(e * outputs_, outputs_).transpose();
    y.rowwise() += b2_.value.row(e);
  }
  /// Gradients of parameters are added to, `din` is written; `middle` becomes its own gradient.
  void backward(graft::index_t e, auto const& in, auto const& middle, auto const& dout, auto const& din) {
    auto a = mapped(middle);
    auto const dy = mapped(dout);
    W2_.gradient.middleRows(e * outputs_, outputs_).noalias() += dy.transpose() * a;
    graft::kernels::sum_rows(graft::serial{}, dout, graft::view(b2_.gradient.row(e)));
    matrix const da = dy * W2_.value.middleRows(e * outputs_, outputs_);
    a = (a.array() > 0.0F).select(da, 0.0F);
    W1_.gradient.middleRows(e * hidden_, hidden_).noalias() += a.transpose() * mapped(in);
    graft::kernels::sum_rows(graft::serial{}, middle, graft::view(b1_.gradient.row(e)));
    mapped(din).noalias() = a * W1_.value.middleRows(e * hidden_, hidden_);
  }

 private:
  static float limit(Eigen::Index inputs) { return std::sqrt(3.0F / static_cast<float>(inputs)); }

  Eigen::Index hidden_, outputs_;
  parameter &W1_, &b1_, &W2_, &b2_;
};

}  // namespace moe
