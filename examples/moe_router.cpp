// SPDX-License-Identifier: Apache-2.0
// Trains a small mixture of experts on handwritten digits: the gates and losses of graft/routing side by side, how well they learn and
// how evenly they load the experts. Checks itself.
// test: --data @EXAMPLES@/data/digits.csv --quick
// test: --data @EXAMPLES@/data/digits.csv --quick --gate switch_top1 --shared --drop-experts 0.1 --linear 0 --threads 2
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <graft/eigen.hpp>
#include <graft/openmp.hpp>

#include "support/digits.hpp"
#include "support/experts.hpp"
#include "support/gates.hpp"
#include "support/moe_options.hpp"
#include "support/moe_report.hpp"

namespace {

using graft::index_t;
using graft::view;
using moe::E;
using moe::matrix;

/// Logits of classes = sum over the experts of a token of weight * expert(h) [+ shared expert(h)], h = x W^T + b or x.
class classifier {
 public:
  classifier(graft::openmp const& ex, moe::setup const& s, moe::options const& o, Eigen::Index pixels)
      : ex_(ex),
        s_(s),
        o_(o),
        all_(o.seed),
        inputs_(o.linear > 0 ? o.linear : pixels),
        linear_(all_.add(o.linear, pixels, std::sqrt(3.0F / static_cast<float>(pixels)))),
        linear_bias_(all_.add(1, o.linear, 0)),
        router_(ex, s, all_, inputs_, o.seed),
        experts_(all_, E, inputs_, hidden, moe::digits::classes) {
    if (o.shared) shared_.emplace(all_, 1, inputs_, hidden, moe::digits::classes);
  }

  /// y[T, classes]. What it leaves behind is for `backward`.
  matrix const& forward(matrix const& x, bool training, std::uint64_t step) {
    if (o_.linear > 0) {
      h_.noalias() = x * linear_.value.transpose();
      h_.rowwise() += linear_bias_.value.row(0);
    } else h_ = x;
    router_.forward(h_, training, step);
    weights_ = router_.weights;
    drops_ = {.probability = training ? o_.drop_experts : 0.0, .seed = o_.seed + 2, .stream = step};
    if (drops_.probability > 0) graft::kernels::drop(ex_, drops_, view(router_.weights), view(weights_));
    y_.resize(x.rows(), moe::digits::classes);

    index_t const pairs = router_.ids.size();
    plan_memory_.resize(graft::plan_bytes(pairs, E));
    in_.resize(pairs, inputs_);
    middle_.resize(pairs, hidden);
    out_.resize(pairs, y_.cols());
    // [experts]
    plan_ = graft::plan_in(plan_memory_, view(router_.ids), E);
    graft::make_plan(ex_, view(router_.ids), training ? s_.limit : graft::dropless, plan_);
    index_t const R = plan_.offsets(E);
    auto const in = graft::rows(view(in_), 0, R), middle = graft::rows(view(middle_), 0, R),
               out = graft::rows(view(out_), 0, R);
    graft::kernels::dispatch(ex_, plan_, view(h_), in);
    graft::for_each_expert(plan_, in, [&](index_t e, auto const& rows) {
      experts_.forward(e, rows, graft::expert_rows(plan_, middle, e), graft::expert_rows(plan_, out, e));
    });
    graft::kernels::combine(ex_, plan_, out, view(weights_), view(y_));
    // [experts end]
    if (shared_) {
      shared_middle_.resize(x.rows(), hidden);
      shared_out_.resize(y_.rows(), y_.cols());
      shared_->forward(0, view(h_), view(shared_middle_), view(shared_out_));
      y_ += shared_out_;
    }
    return y_;
  }

  void backward(matrix const& x, matrix const& dy) {
    matrix dh = matrix::Zero(h_.rows(), h_.cols()), dweights(weights_.rows(), weights_.cols());
    matrix dout_rows(out_.rows(), out_.cols()), din_rows(in_.rows(), in_.cols());
    // [experts backward]
    index_t const R = plan_.offsets(E);
    auto const in = graft::rows(view(in_), 0, R), middle = graft::rows(view(middle_), 0, R),
               out = graft::rows(view(out_), 0, R);
    auto const dout = graft::rows(view(dout_rows), 0, R), din = graft::rows(view(din_rows), 0, R);
    graft::kernels::combine_backward(ex_, plan_, out, view(weights_), view(dy), dout, view(dweights));
    graft::for_each_expert(plan_, dout, [&](index_t e, auto const& rows) {
      experts_.backward(e, graft::expert_rows(plan_, in, e), graft::expert_rows(plan_, middle, e), rows,
                        graft::expert_rows(plan_, din, e));
    });
    graft::kernels::dispatch_backward(ex_, plan_, din, view(dh));  // dh +=
    // [experts backward end]
    if (drops_.probability > 0) {
      matrix kept = matrix::Zero(dweights.rows(), dweights.cols());
      graft::kernels::drop_add(ex_, drops_, view(dweights), view(kept));
      dweights.swap(kept);
    }
    router_.backward(h_, dweights, dh);
    if (shared_) {
      matrix dshared(h_.rows(), h_.cols());
      shared_->backward(0, view(h_), view(shared_middle_), view(dy), view(dshared));
      dh += dshared;
    }
    if (o_.linear > 0) {
      linear_.gradient.noalias() += dh.transpose() * x;
      graft::kernels::sum_rows(ex_, view(dh), view(linear_bias_.gradient.row(0)));
    }
  }

  [[nodiscard]] moe::parameters& all() { return all_; }
  /// Of the last forward.
  [[nodiscard]] graft::plan<> const& plan() const { return plan_; }

 private:
  static constexpr Eigen::Index hidden = 32;
  graft::openmp ex_;
  moe::setup s_;
  moe::options o_;
  moe::parameters all_;
  Eigen::Index inputs_;
  moe::parameter &linear_, &linear_bias_;
  moe::gated router_;
  moe::experts experts_;
  std::optional<moe::experts> shared_;
  std::vector<std::byte> plan_memory_;
  graft::plan<> plan_{};
  graft::dropout drops_;
  matrix h_, weights_, in_, middle_, out_, y_, shared_middle_, shared_out_;
};

/// Pairs that found no room; where experts choose, tokens that none chose.
struct lost {
  index_t count = 0, of = 0;
  void add(graft::plan<> const& p, bool experts_choose) {
    if (!experts_choose) {
      for (index_t i = 0; i < p.pairs(); ++i) count += p.dropped(i);
      of += p.pairs();
      return;
    }
    for (index_t t = 0; t < p.tokens; ++t) {
      bool none = true;
      for (index_t s = 0; s < p.choices; ++s) none = none && p.inverse(t * p.choices + s) < 0;
      count += none ? 1 : 0;
    }
    of += p.tokens;
  }
};

/// Trains and measures one gate with one loss.
moe::outcome train(graft::openmp const& ex, moe::setup const& s, moe::options const& o, moe::digits const& d) {
  auto const start = std::chrono::steady_clock::now();
  classifier model(ex, s, o, d.train.pixels.cols());
  auto const T = d.train.pixels.rows();
  std::vector<Eigen::Index> order(static_cast<std::size_t>(T));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(o.seed);
  std::uint64_t step = 0;
  lost dropped;
  matrix x, dy;
  for (int epoch = 0; epoch < o.epochs; ++epoch) {
    dropped = {};
    // std::shuffle, which is not the same everywhere
    for (std::size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
    for (Eigen::Index first = 0; first < T; first += o.batch) {
      Eigen::Index const count = std::min<Eigen::Index>(o.batch, T - first);
      auto const at = [&](Eigen::Index t) { return order[static_cast<std::size_t>(first + t)]; };
      x.resize(count, d.train.pixels.cols());
      for (Eigen::Index t = 0; t < count; ++t) x.row(t) = d.train.pixels.row(at(t));
      auto const& y = model.forward(x, true, ++step);
      dropped.add(model.plan(), std::holds_alternative<graft::expert_choice>(s.rule));
      dy.resize(count, y.cols());
      graft::kernels::softmax(ex, view(y), view(dy));  // the gradient of the mean cross entropy
      for (Eigen::Index t = 0; t < count; ++t) dy(t, d.train.labels[static_cast<std::size_t>(at(t))]) -= 1;
      dy /= static_cast<float>(count);
      model.all().clear_gradients();
      model.backward(x, dy);
      model.all().step(o.rate);
    }
  }
  moe::outcome result{.gate = s.gate, .loss = s.loss};
  result.dropped = dropped.of > 0 ? static_cast<double>(dropped.count) / static_cast<double>(dropped.of) : 0;
  auto const& y = model.forward(d.test.pixels, false, 0);
  int right = 0;
  for (Eigen::Index t = 0; t < y.rows(); ++t) {
    Eigen::Index best = 0;
    y.row(t).maxCoeff(&best);
    right += best == d.test.labels[static_cast<std::size_t>(t)] ? 1 : 0;
  }
  result.accuracy = right / static_cast<double>(y.rows());
  model.forward(d.train.pixels, false, 0);
  auto const& p = model.plan();
  for (int e = 0; e < E; ++e)
    result.loads[static_cast<std::size_t>(e)] = static_cast<double>(p.counts(e)) / static_cast<double>(p.offsets(E));
  graft::cv_squared_loss(ex, view(result.loads), 1.0, graft::view(&result.cv_squared, 1));
  result.fingerprint = model.all().fingerprint();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

int run(moe::options const& o) {
  moe::digits const d = moe::read_digits(o.data);
  graft::openmp const ex{.threads = o.threads}, other{.threads = o.threads == 1 ? 2 : 1};
  std::printf("%td images to learn from, %td to test, %d epochs, %d experts, graft on %s\n\n", d.train.pixels.rows(),
              d.test.pixels.rows(), o.epochs, E, std::string(graft::name(graft::active_isa())).c_str());
  moe::print_header();
  std::vector<moe::outcome> table;
  int unequal = 0;
  for (moe::setup const& s : moe::all_setups()) {
    if (!o.gate.empty() && s.gate != o.gate) continue;
    table.push_back(train(ex, s, o, d));
    moe::print_row(table.back());
    if (train(other, s, o, d).fingerprint != table.back().fingerprint) ++unequal;
  }
  moe::print_legend();
  if (!o.csv.empty()) moe::write_csv(o.csv, table);
  if (!o.plot.empty()) moe::write_plot(o.plot, table);
  return moe::print_summary(table, unequal, o.quick ? 0.75 : 0.9);
}

}  // namespace

int main(int count, char** values) {
  try {
    Eigen::setNbThreads(1);
    moe::options const o = moe::parse(count, values);
    if (o.help) return std::fputs(moe::usage, stdout), 0;
    return run(o);
  } catch (std::exception const& e) { std::fprintf(stderr, "%s\n", e.what()); }
  return 2;
}
