// SPDX-License-Identifier: Apache-2.0
/// @file
/// The safetensors format (Hugging Face): 8 bytes of little-endian header length, a JSON header, the tensors' bytes.
/// Every byte is hostile; all of the header is checked before anything is handed out.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <graft/config.hpp>
#include <graft/io/dtype.hpp>
#include <graft/io/errors.hpp>
#include <graft/io/file_bytes.hpp>
#include <graft/io/json.hpp>
#include <graft/view/scalar.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

static_assert(std::endian::native == std::endian::little, "graft::io reads little-endian files on little-endian hosts");

/// What a header says of a tensor.
struct tensor_info {
  std::string name;
  dtype type = dtype::other;
  std::string type_name;  ///< As the file spells it: "F32".
  std::vector<index_t> shape;
  index_t begin = 0;  ///< In bytes from the start of the file.
  index_t end = 0;

  [[nodiscard]] index_t size() const {
    index_t n = 1;
    for (index_t const e : shape) n *= e;
    return n;
  }
};

/// A safetensors file whose header has been checked completely. Views handed out live as long as this object.
class safetensors_file {
 public:
  static constexpr std::size_t largest_header = 100'000'000;

  /// Reads the file into memory. Throws file_error, format_error.
  [[nodiscard]] static safetensors_file read(std::string const& path) { return {file_bytes::read(path), path}; }
  /// Maps the file; see `file_bytes::map` for the danger.
  [[nodiscard]] static safetensors_file map(std::string const& path) { return {file_bytes::map(path), path}; }
  /// Bytes that are in memory, copied; `name` stands for the file in messages.
  [[nodiscard]] static safetensors_file parse(std::span<std::byte const> bytes, std::string name) {
    return {file_bytes::copy(bytes), std::move(name)};
  }

  [[nodiscard]] std::string const& path() const { return path_; }
  /// In the order of their data.
  [[nodiscard]] std::vector<tensor_info> const& tensors() const { return tensors_; }
  [[nodiscard]] std::map<std::string, std::string> const& metadata() const { return metadata_; }
  /// Null when there is none of this name.
  [[nodiscard]] tensor_info const* find(std::string_view name) const {
    auto const it = by_name_.find(name);
    return it == by_name_.end() ? nullptr : &tensors_[it->second];
  }
  /// Throws format_error when there is none of this name.
  [[nodiscard]] tensor_info const& at(std::string_view name) const {
    if (auto const* const t = find(name)) return *t;
    detail::refuse(path_, "there is no tensor of this name", name);
  }
  [[nodiscard]] std::span<std::byte const> bytes(tensor_info const& t) const {
    return bytes_.bytes().subspan(static_cast<std::size_t>(t.begin), static_cast<std::size_t>(t.end - t.begin));
  }

  /// The tensor in place as a row-major view of `Rank` dimensions. Throws format_error when T is not the stored type, the
  /// rank differs, the data is not aligned for T (then `read_as` copies), or, without elements, its strides overflow.
  template <scalar T, std::size_t Rank>
  [[nodiscard]] auto view(std::string_view name) const {
    tensor_info const& t = at(name);
    if (t.type != detail::dtype_of<T>)
      detail::refuse(path_,
                     "is stored as " + (t.type == dtype::other ? escaped(t.type_name) : t.type_name) + ", not as " +
                         std::string(detail::row_of(detail::dtype_of<T>).name),
                     t.name, t.begin);
    if (t.shape.size() != Rank)
      detail::refuse(path_, graft::detail::text("has ", t.shape.size(), " dimensions, not ", Rank), t.name, t.begin);
    auto const* const data = bytes(t).data();
    if (reinterpret_cast<std::uintptr_t>(data) % alignof(T) != 0)
      detail::refuse(path_, "is not aligned in the file; read a copy", t.name, t.begin);
    index_t span = 1;  // beside an extent of 0 the others were held against nothing
    for (index_t const e : t.shape)
      if (e != 0 && __builtin_mul_overflow(span, e, &span))
        detail::refuse(path_, "has no elements, but extents whose strides overflow 64 bits", t.name, t.begin);
    std::array<index_t, Rank> shape{};
    std::copy(t.shape.begin(), t.shape.end(), shape.begin());
    return tensor_view<T const, dynamic_extents<Rank>>{reinterpret_cast<T const*>(data), dynamic_extents<Rank>{shape},
                                                       graft::detail::row_major_strides(shape)};
  }

  /// A copy, converted: floating to floating with one rounding, integer (and BOOL) to integer with a check of range. Any
  /// alignment. Throws format_error.
  template <class T>
  [[nodiscard]] std::vector<T> read_as(std::string_view name) const {
    tensor_info const& t = at(name);
    if (t.type == dtype::other)  // before memory is asked for: its shape was not compared with its bytes
      detail::refuse<unsupported_error>(
          path_, graft::detail::text("graft does not read elements of type ", escaped(t.type_name)), t.name, t.begin);
    std::vector<T> out(static_cast<std::size_t>(t.size()));
    auto const* const from = bytes(t).data();
    switch (t.type) {
      case dtype::f64: convert<double>(from, out, t); break;
      case dtype::f32: convert<float>(from, out, t); break;
      case dtype::f16: convert<float16>(from, out, t); break;
      case dtype::bf16: convert<bfloat16>(from, out, t); break;
      case dtype::i64: convert<std::int64_t>(from, out, t); break;
      case dtype::i32: convert<std::int32_t>(from, out, t); break;
      case dtype::i16: convert<std::int16_t>(from, out, t); break;
      case dtype::i8: convert<std::int8_t>(from, out, t); break;
      case dtype::u64: convert<std::uint64_t>(from, out, t); break;
      case dtype::u32: convert<std::uint32_t>(from, out, t); break;
      case dtype::u16: convert<std::uint16_t>(from, out, t); break;
      case dtype::u8:
      case dtype::boolean: convert<std::uint8_t>(from, out, t); break;
      case dtype::other: break;
    }
    return out;
  }

 private:
  safetensors_file(file_bytes bytes, std::string path) : bytes_(std::move(bytes)), path_(std::move(path)) { check(); }

  template <class From, class T>
  void convert(std::byte const* from, std::vector<T>& out, tensor_info const& t) const {
    if constexpr (scalar<From> != scalar<T>)
      detail::refuse(path_, "is stored as " + t.type_name + ", which is not converted to the type asked for", t.name,
                     t.begin);
    else
      for (std::size_t i = 0; i < out.size(); ++i) {
        From value;
        std::memcpy(&value, from + i * sizeof(From), sizeof(From));
        if constexpr (std::is_same_v<From, T>) out[i] = value;
        else if constexpr (scalar<From>) out[i] = store_as<T>(load_as<accumulate_t<From, T>>(value));
        else {
          if (!std::in_range<T>(value))
            detail::refuse(
                path_, graft::detail::text("element ", i, " is ", value, ", out of the range of the type asked for"),
                t.name, t.begin);
          out[i] = static_cast<T>(value);
        }
      }
  }

  void check() {
    auto const all = bytes_.bytes();
    if (all.size() < 8)
      detail::refuse(
          path_, graft::detail::text("the file has ", all.size(), " bytes; a safetensors file has at least 8"), {}, 0);
    std::uint64_t length = 0;
    std::memcpy(&length, all.data(), 8);
    if (length > largest_header)
      detail::refuse(path_,
                     graft::detail::text("the header claims ", length, " bytes; at most ", largest_header, " are read"),
                     {}, 0);
    if (length > all.size() - 8)
      detail::refuse(path_,
                     graft::detail::text("the header claims ", length, " bytes but the file has ", all.size() - 8,
                                         " after its length"),
                     {}, 0);
    if (length == 0) detail::refuse(path_, "the header is empty", {}, 0);
    std::string_view const text(reinterpret_cast<char const*>(all.data()) + 8, static_cast<std::size_t>(length));
    if (text.front() != '{') detail::refuse(path_, "the header does not begin with '{'", {}, 8);
    nlohmann::ordered_json const header = detail::parse_json(text, path_, 8);
    auto const data = static_cast<index_t>(8 + length);
    index_t const data_size = static_cast<index_t>(all.size()) - data;
    for (auto const& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        if (!entry.is_object()) detail::refuse(path_, "must be an object of strings", name);
        for (auto const& [key, value] : entry.items()) {
          if (!value.is_string())
            detail::refuse(path_, graft::detail::text("the metadata value of ", escaped(key), " must be a string"),
                           name);
          metadata_.emplace(key, value.get<std::string>());
        }
      } else tensors_.push_back(entry_of(name, entry, data, data_size));
    }
    std::sort(tensors_.begin(), tensors_.end(), [](auto const& a, auto const& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end != b.end ? a.end < b.end : a.name < b.name;
    });
    index_t at = data;
    for (auto const& t : tensors_) {
      if (t.begin != at)
        detail::refuse(path_,
                       t.begin < at ? "its bytes overlap those of another tensor"
                                    : "there are bytes before it that belong to no tensor",
                       t.name, t.begin);
      at = t.end;
    }
    if (at != data + data_size)
      detail::refuse(path_, graft::detail::text("there are ", data + data_size - at, " bytes after the last tensor"),
                     {}, at);
    for (std::size_t i = 0; i < tensors_.size(); ++i) by_name_.emplace(tensors_[i].name, i);
  }

  [[nodiscard]] tensor_info entry_of(std::string const& name, nlohmann::ordered_json const& entry, index_t data,
                                     index_t data_size) const {
    auto const bad = [&](std::string_view what) {
      detail::refuse(path_, what, name.empty() ? std::string_view("(empty name)") : name);
    };
    if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
        !entry.contains("data_offsets"))
      bad("must have exactly dtype, shape and data_offsets");
    auto const number = [&](nlohmann::ordered_json const& v, std::string_view what) {
      if (!v.is_number_unsigned() || v.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
        bad(graft::detail::text(what, " must be a whole number from 0 to 2^63 - 1"));
      return static_cast<index_t>(v.get<std::uint64_t>());
    };
    tensor_info t;
    t.name = name;
    if (!entry["dtype"].is_string()) bad("dtype must be a string");
    t.type_name = entry["dtype"].get<std::string>();
    auto const* const row = detail::row_of(t.type_name);
    if (row != nullptr) t.type = row->type;
    auto const& shape = entry["shape"];
    auto const& offsets = entry["data_offsets"];
    if (!shape.is_array()) bad("shape must be an array");
    if (shape.size() > 32) bad("shape has more than 32 dimensions");
    if (!offsets.is_array() || offsets.size() != 2) bad("data_offsets must be two numbers");
    index_t size = 1;
    for (auto const& e : shape) {
      t.shape.push_back(number(e, "an extent"));
      if (__builtin_mul_overflow(size, t.shape.back(), &size)) bad("the product of its extents overflows 64 bits");
    }
    index_t const begin = number(offsets[0], "an offset");
    index_t const end = number(offsets[1], "an offset");
    if (begin > end) bad(graft::detail::text("its data begins at ", begin, ", after its end at ", end));
    if (end > data_size)
      bad(graft::detail::text("its data ends at ", end, " but the file has ", data_size, " bytes of data"));
    index_t bytes = 0;
    if (row != nullptr && (__builtin_mul_overflow(size, row->width, &bytes) || bytes != end - begin))
      bad(graft::detail::text("its shape asks for ", size, " elements of ", row->width, " bytes but its data has ",
                              end - begin));
    t.begin = data + begin;
    t.end = data + end;
    return t;
  }

  file_bytes bytes_;
  std::string path_;
  std::vector<tensor_info> tensors_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

}  // namespace graft::inline GRAFT_CONTRACT::io
