// SPDX-License-Identifier: Apache-2.0
/// @file
/// Files in the safetensors format, and any file, written whole or not at all.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/io/dtype.hpp>
#include <graft/io/errors.hpp>
#include <graft/io/json.hpp>
#include <graft/io/safetensors.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

/// A tensor to be written.
struct tensor_data {
  std::string name;
  dtype type = dtype::f32;
  std::vector<index_t> shape;
  std::span<std::byte const> bytes;
};

inline namespace GRAFT_TARGET {

/// A row-major view as a tensor to be written; it must be contiguous.
template <class T, class E, int D>
[[nodiscard]] tensor_data to_write(std::string name, tensor_view<T, E, host_space, D> const& v) {
  using value = std::remove_const_t<T>;
  tensor_data t{std::move(name), detail::dtype_of<value>, {}, {}};
  index_t stride = 1;
  for (std::size_t i = v.rank(); i-- > 0; stride *= v.extent(i))
    if (v.extent(i) > 1 && v.stride(i) != stride)
      graft::detail::raise(argument_error(
          graft::detail::text("graft::io::to_write: ", escaped(t.name), " is not contiguous; copy it first")));
  for (std::size_t i = 0; i < v.rank(); ++i) t.shape.push_back(v.extent(i));
  t.bytes = {reinterpret_cast<std::byte const*>(v.data_handle()), static_cast<std::size_t>(v.size()) * sizeof(value)};
  return t;
}

/// The bytes of a file: as the reference implementation orders them, by type (U64, I64, F64, F32, U32, I32, BF16, F16, U16,
/// I16, I8, U8, BOOL), then by name; the header is padded with spaces to a multiple of 8. The same input gives the same
/// bytes. Throws argument_error for what `safetensors_file` would not read again: names that stand there twice or are not
/// UTF-8 or are "__metadata__", more than 32 dimensions, bytes that do not fit their shape, a header above 100 MB.
[[nodiscard]] inline std::string safetensors_bytes(std::vector<tensor_data> tensors,
                                                   std::map<std::string, std::string> const& metadata = {}) {
  auto const refuse = [](auto const&... parts) {
    graft::detail::raise(argument_error(graft::detail::text("graft::io::write_safetensors: ", parts...)));
  };
  std::sort(tensors.begin(), tensors.end(), [](auto const& a, auto const& b) {
    return detail::place_of(a.type) != detail::place_of(b.type) ? detail::place_of(a.type) < detail::place_of(b.type)
                                                                : a.name < b.name;
  });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  for (auto const& [key, value] : metadata)
    if (!detail::is_utf8(key) || !detail::is_utf8(value)) refuse("the metadata of ", escaped(key), " is not UTF-8");
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string_view> names;
  index_t at = 0;
  for (auto const& t : tensors) {
    if (!names.insert(t.name).second) refuse("two tensors are named ", escaped(t.name));
    if (t.name == "__metadata__" || !detail::is_utf8(t.name)) refuse("no tensor can be named ", escaped(t.name));
    if (t.type == dtype::other || t.shape.size() > 32)
      refuse("the type or the number of dimensions of ", escaped(t.name), " cannot be written");
    index_t size = width(t.type);
    bool good = true;
    for (index_t const e : t.shape) good = good && e >= 0 && !__builtin_mul_overflow(size, e, &size);
    if (!good || size != static_cast<index_t>(t.bytes.size()))
      refuse("the bytes of ", escaped(t.name), " do not fit its type and shape");
    header.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(
        t.name, nlohmann::ordered_json{{"dtype", std::string(detail::row_of(t.type).name)},
                                       {"shape", t.shape},
                                       {"data_offsets", {at, at + size}}});
    at += size;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > safetensors_file::largest_header)
    refuse("the header has ", text.size(), " bytes, more than ", safetensors_file::largest_header);
  auto const length = static_cast<std::uint64_t>(text.size());
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  out += text;
  for (auto const& t : tensors) out.append(reinterpret_cast<char const*>(t.bytes.data()), t.bytes.size());
  return out;
}

/// Writes `path` by way of a file beside it, which is then renamed: readers never meet half a file. Throws file_error.
inline void write_bytes(std::string const& path, std::string_view bytes) {
  std::string const partial = path + ".partial";
  std::FILE* const file = std::fopen(partial.c_str(), "wb");
  if (file == nullptr) detail::refuse<file_error>(partial, std::string("cannot be created: ") + std::strerror(errno));
  bool const wrote = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  bool const closed = std::fclose(file) == 0;
  if (wrote && closed && std::rename(partial.c_str(), path.c_str()) == 0) return;
  std::string const why = std::strerror(errno);
  std::remove(partial.c_str());
  detail::refuse<file_error>(path, "cannot be written: " + why);
}
inline void write_safetensors(std::string const& path, std::vector<tensor_data> tensors,
                              std::map<std::string, std::string> const& metadata = {}) {
  write_bytes(path, safetensors_bytes(std::move(tensors), metadata));
}

}  // namespace GRAFT_TARGET

}  // namespace graft::inline GRAFT_CONTRACT::io
