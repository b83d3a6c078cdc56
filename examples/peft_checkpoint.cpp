// SPDX-License-Identifier: Apache-2.0
// Runs a PEFT checkpoint: applies, merges, unmerges and differentiates every adapter; checks and times it.
// test: @DATA@/peft_checkpoints/lora_plain --reference @DATA@/peft_checkpoints/lora_plain/reference.safetensors
// test: @DATA@/peft_checkpoints/lora_patterns --reference @DATA@/peft_checkpoints/lora_patterns/reference.safetensors
// test: @DATA@/peft_checkpoints/lora_bias_all --reference @DATA@/peft_checkpoints/lora_bias_all/reference.safetensors
// test: @DATA@/peft_checkpoints/lora_modules_to_save --reference @DATA@/peft_checkpoints/lora_modules_to_save/reference.safetensors
// test: @DATA@/peft_checkpoints/lora_rslora --tokens 7 --seed 3 --threads 1
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include <Eigen/Core>
#include <graft/eigen.hpp>
#include <graft/graft.hpp>
#include <graft/io.hpp>
#include <graft/openmp.hpp>

#include "support/float64.hpp"
#include "support/options.hpp"
#include "support/reference.hpp"
#include "support/report.hpp"

namespace {

using demo::layer;
using demo::matrix;
using demo::row_vector;
using graft::view;
using graft::io::adapted_module;
using graft::io::peft_checkpoint;

/// The framework's own layer.
matrix base_output(layer const& l) {
  matrix y = l.x * l.W.transpose();
  if (l.bias.size() != 0) y.rowwise() += l.bias;
  return y;
}

// [graft]
/// Everything that graft does for a layer: forward around the framework's own GEMM, merge, unmerge, backward.
template <class Adapter>
demo::outcome apply(graft::openmp const& ex, Adapter const& adapter, layer const& l) {
  demo::outcome out;
  out.y = l.y;                                            // x W^T + bias, the framework's
  graft::add_delta(ex, adapter, view(l.x), view(out.y));  // y += s (x A^T) B^T

  out.merged = l.W;
  out.merged_bias = l.bias.size() != 0 ? l.bias : row_vector::Zero(l.W.rows()).eval();
  graft::merge(ex, adapter, view(out.merged), view(out.merged_bias));
  out.unmerged = out.merged;
  row_vector bias = out.merged_bias;
  graft::unmerge(ex, adapter, view(out.unmerged), view(bias));

  out.dA = matrix::Zero(l.A.rows(), l.A.cols());  // gradients are added to what is there
  out.dB = matrix::Zero(l.B.rows(), l.B.cols());
  out.dx = l.dx;  // dy W, the framework's
  if constexpr (Adapter::has_bias) {
    out.dbias = row_vector::Zero(l.W.rows());
    graft::backward(ex, adapter, view(l.x), view(l.dy),
                    graft::lora_gradients{view(out.dA), view(out.dB), view(out.dbias)}, view(out.dx));
  } else {
    graft::backward(ex, adapter, view(l.x), view(l.dy), graft::lora_gradients{view(out.dA), view(out.dB)},
                    view(out.dx));
  }
  return out;
}
// [graft end]

/// Medians at `tokens` rows. Eigen gets fp32 factors and memory for its intermediate.
template <class Adapter>
demo::timing measure(graft::openmp const& ex, Adapter const& adapter, layer const& l, Eigen::Index tokens,
                     demo::drawn& numbers) {
  matrix const x = numbers.values(tokens, l.W.cols(), 1.0F);
  matrix y = matrix::Zero(tokens, l.W.rows());
  matrix v(tokens, l.A.rows());
  auto const s = static_cast<float>(l.scale);
  demo::timing t;
  t.base = demo::median_us([&] { y.noalias() = x * l.W.transpose(); });
  t.two_gemms = demo::median_us([&] {
    v.noalias() = x * l.A.transpose();
    v *= s;
    y.noalias() += v * l.B.transpose();
  });
  t.adapter = demo::median_us([&] { graft::add_delta(ex, adapter, view(x), view(y)); });
  return t;
}

/// A view's elements as fp32.
template <class M, class View>
M widened(View const& v) {
  M out(View::rank() == 2 ? v.extent(0) : 1, v.extent(View::rank() - 1));
  for (Eigen::Index i = 0; i < out.size(); ++i) out.data()[i] = graft::load_as<float>(v.data_handle()[i]);
  return out;
}

class program {
 public:
  explicit program(demo::options o)
      : options_(std::move(o)),
        ex_{.threads = options_.threads},
        adapters_(peft_checkpoint::load(options_.folder)),
        numbers_(options_.seed) {
    Eigen::setNbThreads(options_.threads);
    if (!options_.reference.empty()) reference_.emplace(options_.reference);
  }

  int run() {
    print_title();
    if (adapters_.modules().empty()) {
      print_others();
      std::fflush(stdout);
      std::fprintf(stderr, "refused: %s holds no adapter that graft computes\n",
                   graft::io::escaped(options_.folder).c_str());
      return 2;
    }
    if (reference_) {
      demo::print_header("PEFT's output");
      for (auto const& module : reference_->modules()) compare_with_peft(module);
    }
    if (!reference_ || in_reference_ < adapters_.modules().size()) {
      demo::print_header("float64");
      for (auto const& m : adapters_.modules())
        if (!in_reference(m.name)) check(m, drawn_layer(m));
    }
    demo::print_legend();
    print_others();
    return print_summary();
  }

 private:
  [[nodiscard]] bool in_reference(std::string const& module) const {
    return reference_ &&
           std::find(reference_->modules().begin(), reference_->modules().end(), module) != reference_->modules().end();
  }

  /// A module of the reference. One that is not adapted may still be replaced (modules_to_save), or is the base layer.
  void compare_with_peft(std::string const& module) {
    adapted_module const* const m = adapters_.find(module);
    bool const adapted = m != nullptr && m->targeted;
    for (auto const& o : adapters_.others())
      if (o.changes_result && o.name.starts_with("base_model.model." + module + "."))
        throw graft::io::unsupported_error("graft: " + graft::io::escaped(module) + " of the reference depends on " +
                                               graft::io::escaped(o.name) + ": " + o.reason,
                                           options_.folder, o.name);
    bool const turned = reference_->is_conv1d(module) || (adapted && m->fan_in_fan_out);
    layer l;
    l.W = reference_->read(module + ".base.W", turned);
    if (reference_->has(module + ".base.bias")) l.bias = reference_->read<row_vector>(module + ".base.bias");
    replace(module, l, turned);
    l.x = reference_->read(module + ".x");
    if (adapted) {
      ++in_reference_;
      check(*m, std::move(l), turned);
      return;
    }
    reference_->expects_shape(module + ".x", l.x.rows(), l.x.cols(), l.x.rows(), l.W.cols());
    auto y = reference_->compare(module + ".y", base_output(l));
    auto const W = reference_->compare(module + ".merged.W", l.W, turned);
    if (!y) return;
    worst_ = std::max({worst_, y->ratio, W ? W->ratio : 0.0});
    ++modules_;
    demo::print_row(module, adapters_.replaced().contains(module + ".weight") ? "saved" : "base", 0, 0, *y, nullptr,
                    nullptr);
  }

  /// Weights and biases that the checkpoint brings along take the place of the base model's.
  void replace(std::string const& module, layer& l, bool turned) const {
    if (auto const name = module + ".weight"; adapters_.replaced().contains(name)) {
      auto const data = adapters_.read_replaced(name);
      auto const& shape = adapters_.replaced_info(name).shape;
      if (shape.size() != 2)
        throw graft::shape_error("graft: the saved weight of " + graft::io::escaped(module) + " is not a matrix");
      matrix const w = Eigen::Map<matrix const>(data.data(), shape[0], shape[1]);
      if (turned) l.W = w.transpose();
      else l.W = w;
    }
    if (auto const name = module + ".bias"; adapters_.replaced().contains(name)) {
      auto const data = adapters_.read_replaced(name);
      l.bias = Eigen::Map<row_vector const>(data.data(), static_cast<Eigen::Index>(data.size()));
    }
  }

  /// A layer of the shapes that the adapter implies. |y| is near 1, as behind a normalised x.
  layer drawn_layer(adapted_module const& m) {
    layer l;
    l.W = numbers_.values(m.out_features, m.in_features, std::sqrt(3.0F / static_cast<float>(m.in_features)));
    l.x = numbers_.values(options_.tokens, m.in_features, std::sqrt(3.0F));
    replace(m.name, l, m.fan_in_fan_out);
    return l;
  }

  /// All results of one adapted module against float64, and against PEFT's where the reference has them; then the times.
  void check(adapted_module const& m, layer l, bool turned = false) {
    if (reference_ && in_reference(m.name)) {
      reference_->expects_shape(m.name + ".base.W", l.W.rows(), l.W.cols(), m.out_features, m.in_features);
      reference_->expects_shape(m.name + ".x", l.x.rows(), l.x.cols(), l.x.rows(), m.in_features);
    }
    if (l.bias.size() != 0 && l.bias.size() != m.out_features)
      throw graft::shape_error("graft: the bias of " + graft::io::escaped(m.name) + " does not fit");
    l.dy = numbers_.values(l.x.rows(), m.out_features, 1.0F);
    adapters_.visit(m.name, [&]<class Adapter>(Adapter const& adapter) {
      l.A = widened<matrix>(adapter.A);
      l.B = widened<matrix>(adapter.B);
      if constexpr (Adapter::has_bias) l.adapter_bias = widened<row_vector>(adapter.bias);
      l.scale = m.scale;
      l.y = base_output(l);
      l.dx = l.dy * l.W;
      auto const got = apply(ex_, adapter, l);
      auto checks = demo::compare_with_float64(l, got);
      worst_ = std::max(worst_, checks.ratio());
      if (reference_) take_peft(m.name, got, turned, checks);
      worst_ = std::max(worst_, checks.ratio());
      auto const t = measure(ex_, adapter, l, options_.tokens, numbers_);
      auto const count = graft::parameter_count(adapter);
      demo::print_row(m.name, m.rslora ? "rsLoRA" : "LoRA", m.rank, count, checks.y, &checks, &t);
      total_ += t;
      parameters_ += count;
      ++modules_;
    });
  }
  /// PEFT's outputs are what the table shows.
  void take_peft(std::string const& module, demo::outcome const& got, bool turned, demo::checks& checks) const {
    if (auto const y = reference_->compare(module + ".y", got.y)) checks.y = *y;
    if (auto const W = reference_->compare(module + ".merged.W", got.merged, turned)) checks.W = *W;
    if (auto const b = reference_->compare(module + ".merged.bias", got.merged_bias); b && b->ratio > checks.W.ratio)
      checks.W = *b;
  }

  void print_title() const {
    auto const& c = adapters_.config();
    std::printf("%s\n%s of PEFT %s: %s", demo::shortened(options_.folder, 110).c_str(),
                c.use_rslora ? "rsLoRA" : "LoRA",
                c.peft_version.empty() ? "(unknown)" : demo::shortened(c.peft_version, 20).c_str(),
                demo::counted(adapters_.modules().size(), "adapted module").c_str());
    if (auto const n = adapters_.replaced().size(); n != 0)
      std::printf(", %s in place of the base's", demo::counted(n, "tensor").c_str());
    std::printf("\ntimes: %s, %s; graft on %s; Eigen as it was compiled here (%s)\n",
                demo::counted(static_cast<std::size_t>(options_.tokens), "token").c_str(),
                demo::counted(static_cast<std::size_t>(ex_.concurrency()), "thread").c_str(),
                std::string(graft::name(graft::active_isa())).c_str(), Eigen::SimdInstructionSetsInUse());
  }

  void print_others() const {
    if (adapters_.others().empty())
      return static_cast<void>(std::puts("\nEverything in the checkpoint was understood."));
    std::puts("\nnot used by graft:");
    std::string reason;
    for (auto const& o : adapters_.others()) {
      if (std::exchange(reason, o.reason) != o.reason) std::printf("  %s:\n", o.reason.c_str());
      std::printf("    %s %s\n", demo::shortened(o.name, 70).c_str(), demo::shortened(o.value, 32).c_str());
    }
  }

  [[nodiscard]] int print_summary() const {
    bool const good = worst_ <= 1;
    double const gain = total_.two_gemms / total_.adapter;
    std::printf("%s, %s: %s (%.2g of the bound)\n", demo::counted(modules_, "module").c_str(),
                (demo::with_commas(parameters_) + " parameters").c_str(),
                good ? "within bounds" : "A BOUND WAS EXCEEDED", worst_);
    std::printf("adapter %.1f us (%.1f %% of base, %.1fx %s than two GEMMs)\n", total_.adapter,
                100 * total_.adapter / total_.base, gain >= 1 ? gain : 1 / gain, gain >= 1 ? "faster" : "slower");
    return good ? 0 : 1;
  }

  demo::options options_;
  graft::openmp ex_;
  peft_checkpoint adapters_;
  demo::drawn numbers_;
  std::optional<demo::reference> reference_;
  std::size_t in_reference_ = 0;
  std::size_t modules_ = 0;
  graft::index_t parameters_ = 0;
  demo::timing total_;
  double worst_ = 0;
};

}  // namespace

int main(int count, char** values) {
  try {
    demo::options const o = demo::parse(count, values);
    if (o.help) return std::fputs(demo::usage, stdout), 0;
    return program(o).run();
  } catch (demo::usage_error const& e) {
    std::fprintf(stderr, "%s\n%s", e.what(), demo::usage);
  } catch (std::exception const& e) { std::fprintf(stderr, "refused: %s\n", e.what()); }
  return 2;
}
