// SPDX-License-Identifier: Apache-2.0
// The likeliest first mistakes, and the sentence for each. docs/errors.md shows both; a test compares them.
// test:
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include <graft/io.hpp>
#include <graft/openmp.hpp>
#if GRAFT_WITH_KOKKOS
#include <graft/kokkos.hpp>
#endif

namespace {

int silent = 0;

/// Prints what `f` throws.
template <class F>
void show(F const& f) {
  try {
    f();
    std::puts("nothing was thrown");
    ++silent;
  } catch (graft::error const& e) { std::puts(e.what()); }
}

/// my_adapter/ with a configuration of this type, and the first `kept` bytes of its tensors.
void save(std::string const& peft_type, std::size_t kept) {
  std::vector<float> const zeros(32);
  auto const prefix = std::string("base_model.model.q_proj.");
  std::string const bytes =
      graft::io::safetensors_bytes({graft::io::to_write(prefix + "lora_A.weight", graft::view(zeros, 4, 8)),
                                    graft::io::to_write(prefix + "lora_B.weight", graft::view(zeros, 8, 4))},
                                   {{"format", "pt"}});
  std::filesystem::create_directory("my_adapter");
  std::ofstream("my_adapter/adapter_config.json")
      << R"({"peft_type": ")" << peft_type << R"(", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]})";
  graft::io::write_bytes("my_adapter/adapter_model.safetensors", bytes.substr(0, kept));
}

}  // namespace

int main() {
  constexpr int T = 3, n = 8, m = 6, r = 2;
  std::vector<float> x(T * n, 1.0F), y(T * m), A(r * n, 1.0F), B(m * r, 1.0F), k_A(r * 2 * n), W(m * n);
  graft::openmp const ex;
  graft::lora const q{.A = graft::view(A, r, n), .B = graft::view(B, m, r), .scale = 2.0};
  auto const y_view = graft::view(y, T, m);

  show([&] {
    // [order]
    graft::add_delta(ex, q, graft::view(x, n, T), y_view);
    // [order end]
  });
  show([&] {
    // [swapped]
    graft::lora const mixed{.A = graft::view(B, m, r), .B = graft::view(A, r, n), .scale = 2.0};
    graft::add_delta(ex, mixed, graft::view(x, T, n), y_view);
    // [swapped end]
  });
  show([&] {
    // [other layer]
    graft::lora const k{.A = graft::view(k_A, r, 2 * n), .B = graft::view(B, m, r), .scale = 2.0};
    graft::add_delta(ex, k, graft::view(x, T, n), y_view);
    // [other layer end]
  });
  show([&] {
    // [padded]
    constexpr int ld = 12;
    std::vector<float> padded(T * ld);
    graft::add_delta(ex, q, graft::view(padded, T, n), y_view);
    // [padded end]
  });
  show([&] {
    // [strided]
    graft::io::write_safetensors("W.safetensors", {graft::io::to_write("W", graft::transposed(graft::view(W, m, n)))});
    // [strided end]
  });
  show([&] {
    // [rank]
    graft::lora const empty{.A = graft::view(A.data(), 0, n), .B = graft::view(B.data(), m, 0), .scale = 2.0};
    graft::add_delta(ex, empty, graft::view(x, T, n), y_view);
    // [rank end]
  });
  show([&] { (void)graft::lora_scale(16.0, 0); });

  auto const folder = std::filesystem::temp_directory_path() / "graft_first_mistakes";
  std::filesystem::create_directories(folder);
  std::filesystem::current_path(folder);
  save("LORA", 200);
  show([] {
    // [load]
    auto const adapters = graft::io::peft_checkpoint::load("my_adapter");
    // [load end]
  });
  save("PROMPT_TUNING", std::string::npos);
  show([] { (void)graft::io::peft_checkpoint::load("my_adapter"); });
  std::filesystem::current_path(folder.parent_path());
  std::filesystem::remove_all(folder);

#if GRAFT_WITH_KOKKOS
  show([] {
    // [kokkos]
    graft::kokkos_executor<> const kokkos;
    // [kokkos end]
  });
#endif
  return silent;
}
