// SPDX-License-Identifier: Apache-2.0
// Runs a PEFT checkpoint: applies, merges, unmerges and differentiates every adapter; checks and times it.
// test: @DATA@/peft_checkpoints/lora_plain --reference @DATA@/peft_checkpoints/lora_plain/reference.safetensors
// test: @DATA@/peft_checkpoints/lora_patterns --reference @DATA@/peft_checkpoints/lora_patterns/reference.safetensors
// test: @DATA@/peft_checkpoints/lora_bias_all --reference @DATA@/peft_checkpoints/lora_bias_all/reference.safetensors
// test: @DATA@/peft_checkpoints/lora_modules_to_save --reference @DATA@/peft_checkpoints/lora_modules_to_save/reference.safetensors
// test: @DATA@/peft_checkpoints/lora_dora --reference @DATA@/peft_checkpoints/lora_dora/reference.safetensors
// test: @DATA@/peft_checkpoints/vera_no_projection --reference @DATA@/peft_checkpoints/vera_no_projection/reference.safetensors
// test: @DATA@/peft_checkpoints/vera_with_projection --tokens 3
// test: @DATA@/peft_checkpoints/lora_mixtral_experts --reference @DATA@/peft_checkpoints/lora_mixtral_experts/reference.safetensors
// test: @DATA@/peft_checkpoints/boft_m3 --reference @DATA@/peft_checkpoints/boft_m3/reference.safetensors
// test: @DATA@/peft_checkpoints/oft_default --reference @DATA@/peft_checkpoints/oft_default/reference.safetensors
// test: @DATA@/peft_checkpoints/oft_exact_cayley --tokens 3
// test: @DATA@/peft_checkpoints/hra --reference @DATA@/peft_checkpoints/hra/reference.safetensors
// test: @DATA@/peft_checkpoints/ia3 --reference @DATA@/peft_checkpoints/ia3/reference.safetensors
// test: @DATA@/peft_checkpoints/ln_tuning --reference @DATA@/peft_checkpoints/ln_tuning/reference.safetensors
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

#include "support/around.hpp"
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
using graft::io::adapter_kind;
using graft::io::peft_checkpoint;

/// The framework's own layer.
matrix base_output(layer const& l) {
  matrix y = l.x * l.W.transpose();
  if (l.bias.size() != 0) y.rowwise() += l.bias;
  return y;
}

/// Everything that graft does for a layer: forward around the framework's own GEMM, merge, unmerge, backward.
template <class Adapter>
demo::outcome apply(graft::openmp const& ex, Adapter const& adapter, layer const& l) {
  demo::outcome out;
  out.y = l.y;  // x W^T + bias, the framework's
  out.merged = l.W;
  out.merged_bias = l.bias.size() != 0 ? l.bias : row_vector::Zero(l.W.rows()).eval();
  out.dx = l.dx;                                    // dy W, the framework's; gradients are added to what is there
  if constexpr (requires { adapter.magnitude; }) {  // DoRA
    row_vector norms(l.W.rows());
    auto const dora = graft::with_norms(adapter, view(norms));
    graft::update_norms(ex, dora, view(l.W));  // || W + s B A ||, after every step
    matrix kept(out.y.rows(), out.y.cols()), dy = l.dy;
    graft::transform_output(ex, dora, view(l.x), view(out.y), view(kept));  // y = m / norms * (y + s (x A^T) B^T)
    if (l.bias.size() != 0) out.y.rowwise() += l.bias;
    graft::merge(ex, dora, view(out.merged));
    out.unmerged = out.merged;
    graft::unmerge(ex, dora, view(out.unmerged));
    out.dA = matrix::Zero(l.A.rows(), l.A.cols());
    out.dB = matrix::Zero(l.B.rows(), l.B.cols());
    out.dmagnitude = row_vector::Zero(l.W.rows());
    graft::dora_gradients const gradients{view(out.dA), view(out.dB), view(out.dmagnitude)};
    graft::backward(ex, dora, view(l.x), view(std::as_const(kept)), view(dy), gradients, view(out.dx));
    out.dx.noalias() += dy * l.W;                           // the framework's, of the scaled dy
  } else if constexpr (requires { adapter.d; }) {           // VeRA
    graft::add_delta(ex, adapter, view(l.x), view(out.y));  // y += b * ((d * (x A^T)) B^T)
    graft::merge(ex, adapter, view(out.merged));
    out.unmerged = out.merged;
    graft::unmerge(ex, adapter, view(out.unmerged));
    out.dd = row_vector::Zero(l.A.rows());
    out.db = row_vector::Zero(l.W.rows());
    graft::backward(ex, adapter, view(l.x), view(l.dy), graft::vera_gradients{view(out.dd), view(out.db)},
                    view(out.dx));
  } else {
    graft::add_delta(ex, adapter, view(l.x), view(out.y));  // y += s (x A^T) B^T
    graft::merge(ex, adapter, view(out.merged), view(out.merged_bias));
    out.unmerged = out.merged;
    row_vector bias = out.merged_bias;
    graft::unmerge(ex, adapter, view(out.unmerged), view(bias));
    out.dA = matrix::Zero(l.A.rows(), l.A.cols());
    out.dB = matrix::Zero(l.B.rows(), l.B.cols());
    if constexpr (Adapter::has_bias) {
      out.dbias = row_vector::Zero(l.W.rows());
      graft::backward(ex, adapter, view(l.x), view(l.dy),
                      graft::lora_gradients{view(out.dA), view(out.dB), view(out.dbias)}, view(out.dx));
    } else {
      graft::backward(ex, adapter, view(l.x), view(l.dy), graft::lora_gradients{view(out.dA), view(out.dB)},
                      view(out.dx));
    }
  }
  return out;
}

/// Medians at `tokens` rows. Eigen gets fp32 factors and memory for its intermediate.
template <class Adapter>
demo::timing measure(graft::openmp const& ex, Adapter const& adapter, layer const& l, Eigen::Index tokens,
                     demo::drawn& numbers) {
  matrix const x = numbers.values(tokens, l.W.cols(), 1.0F);
  matrix y = matrix::Zero(tokens, l.W.rows());
  matrix v(tokens, l.A.rows()), delta(tokens, l.W.rows());
  auto const s = static_cast<float>(l.scale);
  bool const vera = l.d.size() != 0, dora = l.magnitude.size() != 0;
  demo::timing t;
  t.base = demo::median_us([&] { y.noalias() = x * l.W.transpose(); });
  t.eigen = demo::median_us([&] {
    v.noalias() = x * l.A.transpose();
    if (vera) v.array().rowwise() *= l.d.array();
    else v *= s;
    if (vera) {
      delta.noalias() = v * l.B.transpose();
      y.array() += delta.array().rowwise() * l.b.array();
    } else y.noalias() += v * l.B.transpose();
    if (dora) y.array().rowwise() *= l.magnitude.array();
  });
  if constexpr (requires { adapter.magnitude; }) {
    row_vector norms(l.W.rows()), factors(l.W.rows());
    auto const d = graft::with_norms(adapter, view(norms));
    graft::update_norms(ex, d, view(l.W));
    auto const ready = graft::prepare(ex, d, view(factors));
    t.adapter = demo::median_us([&] { graft::transform_output(ex, ready, view(x), view(y)); });
  } else t.adapter = demo::median_us([&] { graft::add_delta(ex, adapter, view(x), view(y)); });
  return t;
}

/// A view's elements as fp32.
template <class M, class View>
M widened(View const& v) {
  M out(View::rank() == 2 ? v.extent(0) : 1, v.extent(View::rank() - 1));
  for (Eigen::Index i = 0; i < out.rows(); ++i)
    for (Eigen::Index j = 0; j < out.cols(); ++j) {
      if constexpr (View::rank() == 2) out(i, j) = graft::load_as<float>(v(i, j));
      else out(i, j) = graft::load_as<float>(v(j));
    }
  return out;
}

/// Does it scale outputs and nothing else, as (IA)3?
template <class A>
inline constexpr bool is_scale = requires { A::scales_bias; };

class program {
 public:
  explicit program(demo::options o)
      : options_(std::move(o)),
        ex_{.threads = options_.threads},
        adapters_(peft_checkpoint::load(options_.folder)),
        numbers_(options_.seed) {
    Eigen::setNbThreads(options_.threads);
    if (!options_.reference.empty()) reference_.emplace(options_.reference);
    if (!adapters_.has_projections()) draw_projections();
  }

  /// VeRA's projections depend on the largest layer of the model, which only a reference tells.
  void draw_projections() {
    graft::index_t largest = 0;
    if (reference_)
      for (auto const& module : reference_->modules())
        if (adapters_.find(module) != nullptr)
          largest = std::max<graft::index_t>(largest, reference_->read(module + ".base.W").cols());
    if (largest == 0)
      throw graft::io::unsupported_error(
          "graft: " + graft::io::escaped(options_.folder + "/adapter_model.safetensors") +
              " holds no projections, and without --reference the sizes of the model that they are drawn for are not "
              "known",
          options_.folder);
    adapters_.replay_projections(largest);
  }

  int run() {
    print_title();
    if (adapters_.modules().empty()) {
      print_others();
      std::fflush(stdout);
      std::fprintf(stderr, "refused: %s holds no adapter that graft computes\n",
                   graft::io::escaped(options_.folder + "/adapter_model.safetensors").c_str());
      return 2;
    }
    if (reference_) {
      demo::print_header("PEFT's output");
      for (auto const& module : reference_->modules()) compare_with_peft(module);
    }
    auto const alone = [&](adapted_module const& m) { return is_layer(m) && !in_reference(m.name); };
    if (std::any_of(adapters_.modules().begin(), adapters_.modules().end(), alone)) {
      demo::print_header("float64");
      for (auto const& m : adapters_.modules())
        if (alone(m)) check(m, drawn_layer(m));
    }
    demo::print_legend();
    print_rest();
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
    if (adapted && m->kind == adapter_kind::ln_tuning) return compare_norm(*m);
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
    // What the file does not tell is as wide as the other side, or four blocks.
    auto const n = m.in_features > 0 ? m.in_features : m.out_features > 0 ? m.out_features : 4 * m.block_size;
    auto const rows = m.out_features > 0 ? m.out_features : n;
    l.W = numbers_.values(rows, n, std::sqrt(3.0F / static_cast<float>(n)));
    l.x = numbers_.values(options_.tokens, n, std::sqrt(3.0F));
    replace(m.name, l, m.fan_in_fan_out);
    return l;
  }

  /// A layer of normalisation, whose weight the checkpoint brings along: an RMSNorm where it has no bias, as Llama's.
  void compare_norm(adapted_module const& m) {
    ++in_reference_;
    matrix const x = reference_->read(m.name + ".x");
    reference_->expects_shape(m.name + ".x", x.rows(), x.cols(), x.rows(), m.in_features);
    matrix y(x.rows(), x.cols());
    row_vector weight(m.in_features);
    adapters_.visit_norm(m.name, [&](auto const& w, auto const& bias) {
      weight = widened<row_vector>(w);
      if constexpr (requires { bias.extent(0); })
        graft::normalize(ex_, graft::layer_norm{w, bias, 1e-5}, view(x), view(y));
      else graft::normalize(ex_, graft::rms_norm{w, 1e-6}, view(x), view(y));
    });
    auto const of_y = reference_->compare(m.name + ".y", y);
    auto const W = reference_->compare(m.name + ".merged.W", weight);
    if (!of_y) return;
    worst_ = std::max({worst_, of_y->ratio, W ? W->ratio : 0.0});
    ++modules_;
    graft::index_t const count = m.in_features * (m.has_bias ? 2 : 1);
    parameters_ += count;
    demo::print_row(m.name, "LN", 0, count, *of_y, nullptr, nullptr);
  }

  /// All results of one adapted module against float64, and against PEFT's where the reference has them; then the times.
  void check(adapted_module const& m, layer l, bool turned = false) {
    if (reference_ && in_reference(m.name)) {
      bool const told = m.kind != adapter_kind::vera && m.in_features > 0;  // or the file does not know
      auto const in = told ? m.in_features : l.W.cols(), out = m.out_features > 0 ? m.out_features : l.W.rows();
      reference_->expects_shape(m.name + ".base.W", l.W.rows(), l.W.cols(), out, in);
      reference_->expects_shape(m.name + ".x", l.x.rows(), l.x.cols(), l.x.rows(), in);
    }
    if (l.bias.size() != 0 && l.bias.size() != l.W.rows())
      throw graft::shape_error("graft: the bias of " + graft::io::escaped(m.name) + " does not fit");
    l.dy = numbers_.values(l.x.rows(), l.W.rows(), 1.0F);
    auto const use = [&]<class Adapter>(Adapter const& adapter) {
      if constexpr (graft::input_transform<Adapter> || is_scale<Adapter>)
        demo::with_fp32(adapter, [&](auto const& wide) { check_around(m, wide, l, turned); });
      else check_low_rank(m, adapter, l, turned);
    };
    adapters_.visit(m.name, use, l.W.cols());
  }
  template <class Adapter>
  void check_low_rank(adapted_module const& m, Adapter const& adapter, layer& l, bool turned) {
    constexpr bool dora = requires { adapter.magnitude; };
    constexpr bool vera = requires { adapter.d; };
    auto const& factors = [&]() -> auto const& {
      if constexpr (dora) return adapter.low_rank;
      else return adapter;
    }();
    l.A = widened<matrix>(factors.A);
    l.B = widened<matrix>(factors.B);
    if constexpr (dora) l.magnitude = widened<row_vector>(adapter.magnitude);
    if constexpr (vera) {
      l.d = widened<row_vector>(adapter.d);
      l.b = widened<row_vector>(adapter.b);
    }
    if constexpr (!dora && !vera)
      if constexpr (Adapter::has_bias) l.adapter_bias = widened<row_vector>(adapter.bias);
    l.scale = m.scale;
    if (dora) l.y = l.x * l.W.transpose();
    else l.y = base_output(l);
    if (dora) l.dx = matrix::Zero(l.x.rows(), l.W.cols());
    else l.dx = l.dy * l.W;
    auto const got = apply(ex_, adapter, l);
    report(m, graft::parameter_count(adapter), got, demo::compare_with_float64(l, got), turned,
           measure(ex_, adapter, l, options_.tokens, numbers_));
  }
  template <class Adapter>
  void check_around(adapted_module const& m, Adapter const& adapter, layer const& l, bool turned) {
    auto const got = demo::apply_around(ex_, adapter, l);
    auto [parameters, scales] = demo::parameters_of(adapter);
    demo::around_layer const around{l, demo::maker<double>(adapter), std::move(parameters), std::move(scales),
                                    requires {Adapter::scales_bias;
  }
};
report(m, graft::parameter_count(adapter), got, demo::compare_with_float64(around, got), turned,
       demo::measure_around(ex_, adapter, l, options_.tokens, numbers_));
}  // namespace
template <class Outcome>
void report(adapted_module const& m, graft::index_t count, Outcome const& got, demo::checks checks, bool turned,
            demo::timing const& t) {
  worst_ = std::max(worst_, checks.ratio());
  if (reference_) take_peft(m.name, got, turned, checks);
  worst_ = std::max(worst_, checks.ratio());
  demo::print_row(m.name, method_of(m), m.rank > 0 ? m.rank : m.block_size, count, checks.y, &checks, &t);
  total_ += t;
  parameters_ += count;
  ++modules_;
}
[[nodiscard]] static std::string method_of(adapted_module const& m) {
  if (m.rslora && m.kind == adapter_kind::lora) return "rsLoRA";
  return std::string(graft::io::name(m.kind == adapter_kind::ia3_feedforward ? adapter_kind::ia3 : m.kind));
}
/// Is it a layer, of which the table shows a line?
[[nodiscard]] static bool is_layer(adapted_module const& m) { return m.kind < adapter_kind::ln_tuning; }
/// PEFT's outputs are what the table shows.
template <class Outcome>
void take_peft(std::string const& module, Outcome const& got, bool turned, demo::checks& checks) const {
  if (auto const y = reference_->compare(module + ".y", got.y)) checks.y = *y;
  if (auto const W = reference_->compare(module + ".merged.W", got.merged, turned)) checks.W = *W;
  if (got.merged_bias.size() == 0) return;
  if (auto const b = reference_->compare(module + ".merged.bias", got.merged_bias); b && b->ratio > checks.W.ratio)
    checks.W = *b;
}

void print_title() const {
  auto const& c = adapters_.config();
  std::printf("%s\n%s of PEFT %s: %s", demo::shortened(options_.folder, 110).c_str(),
              adapters_.modules().empty() ? "a folder" : method_of(adapters_.modules().front()).c_str(),
              c.peft_version.empty() ? "(unknown)" : demo::shortened(c.peft_version, 20).c_str(),
              demo::counted(adapters_.modules().size(), "adapted module").c_str());
  if (auto const n = adapters_.replaced().size(); n != 0)
    std::printf(", %s in place of the base's", demo::counted(n, "tensor").c_str());
  std::printf("\ntimes: %s, %s; graft on %s; Eigen as it was compiled here (%s)\n",
              demo::counted(static_cast<std::size_t>(options_.tokens), "token").c_str(),
              demo::counted(static_cast<std::size_t>(ex_.concurrency()), "thread").c_str(),
              std::string(graft::name(graft::active_isa())).c_str(), Eigen::SimdInstructionSetsInUse());
}

/// What is no layer of x and y has no line in the table.
void print_rest() const {
  for (auto const& m : adapters_.modules())
    if (!is_layer(m) && !(m.kind == adapter_kind::ln_tuning && in_reference(m.name)))
      std::printf("%s is %s: handed out, not in the table\n", demo::shortened(m.name, 60).c_str(),
                  std::string(graft::io::name(m.kind)).c_str());
}
void print_others() const {
  if (adapters_.others().empty()) return static_cast<void>(std::puts("\nEverything in the checkpoint was understood."));
  std::puts("\nnot used by graft:");
  std::string reason;
  for (auto const& o : adapters_.others()) {
    if (std::exchange(reason, o.reason) != o.reason) std::printf("  %s:\n", o.reason.c_str());
    std::printf("    %s %s\n", demo::shortened(o.name, 70).c_str(), demo::shortened(o.value, 32).c_str());
  }
}

[[nodiscard]] int print_summary() const {
  bool const good = worst_ <= 1;
  double const gain = total_.adapter > 0 ? total_.eigen / total_.adapter : 0;
  std::printf("%s, %s: %s (%.2g of the bound)\n", demo::counted(modules_, "module").c_str(),
              (demo::with_commas(parameters_) + " parameters").c_str(), good ? "within bounds" : "A BOUND WAS EXCEEDED",
              worst_);
  if (gain > 0)
    std::printf("adapter %.1f us (%.1f %% of base, %.1fx %s than Eigen's)\n", total_.adapter,
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
}
;

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
