// Text as a configuration: refused, or it answers every question about every name.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <graft/io/adapter_config.hpp>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  try {
    auto const c = graft::io::adapter_config::parse({reinterpret_cast<char const*>(data), size}, "fuzz");
    for (std::string_view const name :
         {"", "q", "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.experts.down_proj"}) {
      static_cast<void>(c.targets(name));
      static_cast<void>(c.rank_of(name));
      static_cast<void>(c.alpha_of(name));
    }
  } catch (graft::error const&) {  // the only way out
  }
  return 0;
}
