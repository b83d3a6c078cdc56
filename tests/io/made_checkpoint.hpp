// Checkpoints made by hand, and what must become of them: handed out, listed, refused.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <graft/io/peft_checkpoint.hpp>
#include <graft/io/safetensors_writer.hpp>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"

namespace tests {

inline std::string const data_folder = GRAFT_TEST_DATA;
inline graft::io::peft_checkpoint real(std::string const& name) {
  return graft::io::peft_checkpoint::load(data_folder + "/peft_checkpoints/" + name);
}

/// Tensors with numbers of their own, and a configuration, as files of a folder.
class made {
 public:
  explicit made(std::string const& members = R"("r": 2, "lora_alpha": 4, "target_modules": ["q"])",
                std::string const& type = "LORA") {
    configure(members, type);
  }

  made& configure(std::string const& members, std::string const& type = "LORA") {
    write(here_ / "adapter_config.json", "{\"peft_type\": \"" + type + "\", " + members + "}");
    return *this;
  }
  template <class T = float>
  made& add(std::string const& name, std::vector<graft::index_t> shape,
            graft::io::dtype type = graft::io::detail::dtype_of<T>) {
    graft::index_t size = 1;
    for (graft::index_t const e : shape) size *= e;
    std::vector<T> values;
    for (graft::index_t i = 0; i < size; ++i)
      if constexpr (graft::scalar<T>) values.push_back(graft::store_as<T>(static_cast<float>(first_ + i)));
      else values.push_back(static_cast<T>(first_ + i));
    first_ += size;
    data_.push_back(std::make_unique<std::string>(bytes_of(values)));
    tensors_.push_back({name, type, std::move(shape), as_bytes(*data_.back())});
    return *this;
  }
  /// A and B of a module [3, 5] of this rank.
  template <class T = float>
  made& lora(std::string const& module, graft::index_t rank = 2) {
    return add<T>("base_model.model." + module + ".lora_A.weight", {rank, 5})
        .template add<T>("base_model.model." + module + ".lora_B.weight", {3, rank});
  }
  [[nodiscard]] std::string file() const { return here_ / "adapter_model.safetensors"; }
  [[nodiscard]] std::string config() const { return here_ / "adapter_config.json"; }
  [[nodiscard]] std::string path() const { return here_.path(); }
  void save() const { graft::io::write_safetensors(file(), tensors_); }
  [[nodiscard]] graft::io::peft_checkpoint load() const {
    save();
    return graft::io::peft_checkpoint::load(path());
  }

 private:
  folder here_;
  std::vector<std::unique_ptr<std::string>> data_;
  std::vector<graft::io::tensor_data> tensors_;
  graft::index_t first_ = 1;
};

inline graft::io::not_understood const* other(graft::io::peft_checkpoint const& c, std::string_view name) {
  auto const it = std::find_if(c.others().begin(), c.others().end(), [&](auto const& o) { return o.name == name; });
  return it == c.others().end() ? nullptr : &*it;
}
inline std::vector<std::string> names(graft::io::peft_checkpoint const& c) {
  std::vector<std::string> out;
  for (auto const& m : c.modules()) out.push_back(m.name);
  return out;
}
inline std::vector<std::string> replaced(graft::io::peft_checkpoint const& c) {
  std::vector<std::string> out;
  for (auto const& [base, stored] : c.replaced()) out.push_back(base);
  return out;
}

/// Refused: in a sentence that names the file, the tensor and this reason.
inline graft::io::format_error refused(made const& m, std::string_view tensor, std::string_view reason) {
  auto const e = refusal<graft::io::format_error>([&] { return m.load(); });
  INFO(e.what());
  CHECK(e.file == m.file());
  CHECK(e.tensor == tensor);
  CHECK(e.offset > 8);
  CHECK(contains(e.what(), graft::io::escaped(tensor)));
  CHECK(contains(e.what(), "(offset " + std::to_string(e.offset) + ")"));
  CHECK(contains(e.what(), reason));
  return e;
}
/// Listed with this reason; nothing else is, and no module is handed out.
inline void only_listed(made const& m, std::vector<std::string> const& tensors, std::string_view reason) {
  auto const c = m.load();
  CHECK(c.modules().empty());
  std::size_t of_file = 0;
  for (auto const& o : c.others()) of_file += o.name.starts_with("base_model.") ? 1U : 0U;
  CHECK(of_file == tensors.size());
  for (auto const& t : tensors) {
    INFO(t);
    auto const* const o = other(c, t);
    REQUIRE(o != nullptr);
    CHECK(contains(o->reason, reason));
    CHECK(o->changes_result);
  }
}

/// For `visit`: f, which takes adapters of one kind; false when it is given another.
template <class F>
auto only(F f) {
  return [f]<class Adapter>(Adapter const& a) {
    if constexpr (std::invocable<F const&, Adapter const&>) return f(a);
    else return false;
  };
}
template <class A>
concept a_boft = requires(A const& a) {
  a.factors();
  a.s;
};
template <class A> concept an_oft = requires(A const& a) { a.terms; };
template <class A> concept an_hra = requires(A const& a) { a.gram_schmidt; };
template <class A>
concept an_ia3 = requires(A const& a) {
  a.l;
  a.out_features();
};
template <class A>
concept an_ia3_feedforward = requires(A const& a) {
  a.l;
  a.in_features();
};

/// These numbers, in this order and packed, at a multiple of 64 bytes.
template <class V>
bool holds(V const& v, std::vector<float> const& want) {
  if (v.size() != static_cast<graft::index_t>(want.size()) ||
      reinterpret_cast<std::uintptr_t>(v.data_handle()) % 64 != 0)
    return false;
  for (std::size_t i = 0; i < want.size(); ++i)
    if (graft::load_as<float>(v.data_handle()[i]) != want[i]) return false;
  return true;
}
/// The numbers that `made` gives a tensor.
inline std::vector<float> counted(graft::index_t first, graft::index_t count) {
  std::vector<float> out;
  for (graft::index_t i = 0; i < count; ++i) out.push_back(static_cast<float>(first + i));
  return out;
}

}  // namespace tests
