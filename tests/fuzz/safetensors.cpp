// Bytes as a safetensors file: refused as a whole, or every tensor is read in full, as a copy and in place. After the header
// was accepted nothing may be thrown but what `read_as` and `view` say; anything else that leaves this function is a finding.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include <graft/io/safetensors.hpp>

namespace {

using graft::io::dtype;
using graft::io::safetensors_file;
using graft::io::tensor_info;

void require(bool good) {
  if (!good) std::abort();
}

/// In place the elements are those of the copy, bit for bit; refused only where the data is not aligned, or strides of nothing overflow.
template <class T, std::size_t Rank>
void compare_in_place(safetensors_file const& file, tensor_info const& t, std::vector<T> const& copy) {
  if (t.shape.size() != Rank) return;
  auto const bytes = file.bytes(t);
  try {
    auto const v = file.view<T, Rank>(t.name);
    require(static_cast<std::size_t>(v.size()) == copy.size());
    for (std::size_t i = 0; i < Rank; ++i) require(v.extent(i) == t.shape[i]);
    if (!copy.empty()) require(std::memcmp(v.data_handle(), copy.data(), bytes.size()) == 0);
  } catch (graft::io::format_error const&) {
    require(copy.empty() || reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) != 0);
  }
}
/// The type that it is stored in converts to itself, always.
template <class T>
void read_stored(safetensors_file const& file, tensor_info const& t) {
  std::vector<T> const copy = file.read_as<T>(t.name);
  require(copy.size() == static_cast<std::size_t>(t.size()));
  require(copy.size() * sizeof(T) == file.bytes(t).size());
  if constexpr (graft::scalar<T>) {
    [&]<std::size_t... Rank>(std::index_sequence<Rank...>) {
      (compare_in_place<T, Rank + 1>(file, t, copy), ...);
    }(std::make_index_sequence<5>{});
    require(file.read_as<double>(t.name).size() == copy.size());
    require(file.read_as<graft::bfloat16>(t.name).size() == copy.size());
  } else {
    try {
      require(file.read_as<std::int8_t>(t.name).size() == copy.size());
    } catch (graft::io::format_error const&) {}  // out of range
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::optional<safetensors_file> read;
  try {
    read.emplace(safetensors_file::parse({reinterpret_cast<std::byte const*>(data), size}, "fuzz"));
  } catch (graft::io::format_error const&) { return 0; }
  safetensors_file const& file = *read;
  std::size_t sum = 0;
  for (auto const& t : file.tensors()) {
    require(&file.at(t.name) == &t);
    for (std::byte const b : file.bytes(t)) sum += static_cast<std::size_t>(b);
    switch (t.type) {
      case dtype::f64: read_stored<double>(file, t); break;
      case dtype::f32: read_stored<float>(file, t); break;
      case dtype::f16: read_stored<graft::float16>(file, t); break;
      case dtype::bf16: read_stored<graft::bfloat16>(file, t); break;
      case dtype::i64: read_stored<std::int64_t>(file, t); break;
      case dtype::i32: read_stored<std::int32_t>(file, t); break;
      case dtype::i16: read_stored<std::int16_t>(file, t); break;
      case dtype::i8: read_stored<std::int8_t>(file, t); break;
      case dtype::u64: read_stored<std::uint64_t>(file, t); break;
      case dtype::u32: read_stored<std::uint32_t>(file, t); break;
      case dtype::u16: read_stored<std::uint16_t>(file, t); break;
      case dtype::u8:
      case dtype::boolean: read_stored<std::uint8_t>(file, t); break;
      case dtype::other:
        try {
          static_cast<void>(file.read_as<float>(t.name));
          require(false);
        } catch (graft::io::unsupported_error const&) {}
        break;
    }
  }
  return static_cast<int>(sum & 0U);
}
