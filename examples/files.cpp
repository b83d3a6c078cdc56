// SPDX-License-Identifier: Apache-2.0
// Every call that docs/checkpoints.md and docs/io.md show: an adapter is written, loaded and applied, a tensor read.
// test:
#include <cstdio>
#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <graft/io.hpp>
#include <graft/openmp.hpp>

namespace {

constexpr int T = 3, n = 8, m = 6, r = 2;
graft::openmp const ex;

/// A LoRA of one module and a full copy of another.
void write(graft::lora<graft::tensor_view<float, graft::dynamic_extents<2>>,
                       graft::tensor_view<float, graft::dynamic_extents<2>>> const& lora,
           std::vector<float> const& head) {
  graft::io::adapter_config settings;
  settings.modules_to_save = {"lm_head"};
  auto const view = graft::view(head, 5, m);
  std::filesystem::create_directory("my_adapter");
  // [write]
  graft::io::peft_writer(settings)                   // an adapter_config: dropout, use_rslora, bias, ... ; or nothing
      .add("model.layers.0.self_attn.q_proj", lora)  // or any other of the table above
      .replace("lm_head.weight", view)               // with modules_to_save
      .write("my_adapter");                          // an existing folder
  // [write end]
}

/// Applies what was written, twice: by kind and by name.
void load(std::vector<float> const& inputs, std::vector<float>& outputs) {
  auto const x = graft::view(inputs, T, n);
  auto const y = graft::view(outputs, T, m);
  // [load]
  auto const adapters = graft::io::peft_checkpoint::load("my_adapter");
  for (auto const& o : adapters.others())  // what graft does not compute with
    std::fprintf(stderr, "%s: %s\n", graft::io::escaped(o.name).c_str(), o.reason.c_str());

  for (auto const& module : adapters.modules())  // name, rank, in_features, out_features, scale, type, ...
    if (module.kind == graft::io::adapter_kind::lora)
      adapters.visit(module.name, [&](auto const& q) {  // a graft::lora of the stored type
        if constexpr (graft::additive_adapter<std::remove_cvref_t<decltype(q)>>) graft::add_delta(ex, q, x, y);
      });

  auto const q = adapters.lora<float>("model.layers.0.self_attn.q_proj");  // when you know: fp32, no bias
  // [load end]
  graft::add_delta(ex, q, x, y);
}

/// The first element of W, and the number of b's.
std::pair<float, std::size_t> read() {
  // [read]
  auto const file = graft::io::safetensors_file::read("model.safetensors");
  for (auto const& t : file.tensors()) std::printf("%s %s\n", graft::io::escaped(t.name).c_str(), t.type_name.c_str());
  auto const W = file.view<float, 2>("W");                // in place; valid as long as file
  std::vector<float> const b = file.read_as<float>("b");  // a copy, converted
  // [read end]
  return {W(0, 0), b.size()};
}

}  // namespace

int main() {
  auto const folder = std::filesystem::temp_directory_path() / "graft_files";
  std::filesystem::create_directories(folder);
  std::filesystem::current_path(folder);

  std::vector<float> A(r * n, 0.5F), B(m * r, 0.25F), head(5 * m, 1.0F), x(T * n, 1.0F), y(T * m);
  write({.A = graft::view(A, r, n), .B = graft::view(B, m, r), .scale = 2.0}, head);
  load(x, y);
  std::vector<double> const half(m, 0.5);
  graft::io::write_safetensors("model.safetensors", {graft::io::to_write("W", graft::view(head, 5, m)),
                                                     graft::io::to_write("b", graft::view(half))});
  auto const [first, count] = read();

  std::filesystem::current_path(folder.parent_path());
  std::filesystem::remove_all(folder);
  // By hand: x A^T = 4, s = 2, so twice 2 (2 (4 / 4)) = 8.
  bool const right = y == std::vector<float>(T * m, 8.0F) && first == 1.0F && count == m;
  std::puts(right ? "right" : "wrong");
  return right ? 0 : 1;
}
