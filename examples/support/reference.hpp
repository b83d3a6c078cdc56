// SPDX-License-Identifier: Apache-2.0
/// @file
/// Base tensors and PEFT's own outputs, in the format of docs/golden.md: for each module M the file holds M.base.W,
/// M.base.bias, M.x, and in float64 M.y64, M.merged.W64, M.merged.bias64; its metadata holds the tolerances.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <Eigen/Core>
#include <graft/io.hpp>
#include <nlohmann/json.hpp>

#include "float64.hpp"

namespace demo {

class reference {
 public:
  explicit reference(std::string const& path) : file_(graft::io::safetensors_file::read(path)) {
    tol_ = metadata("tol");
    info_ = metadata("info");
    for (auto const& m : metadata("modules")) {
      if (!m.is_string()) refuse("the metadata value \"modules\" must be a list of names");
      modules_.push_back(m.get<std::string>());
    }
  }

  [[nodiscard]] std::vector<std::string> const& modules() const { return modules_; }
  [[nodiscard]] bool has(std::string const& tensor) const { return file_.find(tensor) != nullptr; }
  /// Layers that store W[in, out], as GPT-2's.
  [[nodiscard]] bool is_conv1d(std::string const& module) const {
    return info_.is_object() && info_.contains(module) && info_[module].is_object() &&
           info_[module].value("type", std::string()) == "Conv1D";
  }

  /// As a matrix of T; leading dimensions become rows, a vector one row. Turned round where `turned`.
  template <class M = matrix>
  [[nodiscard]] M read(std::string const& tensor, bool turned = false) const {
    using T = typename M::Scalar;
    auto const& info = file_.at(tensor);
    if (info.shape.empty()) refuse("is a single number", tensor);
    std::vector<T> const data = file_.read_as<T>(tensor);
    Eigen::Index const columns = info.shape.back();
    Eigen::Index rows = 1;
    for (std::size_t i = 0; i + 1 < info.shape.size(); ++i) rows *= info.shape[i];
    auto const m =
        Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> const>(data.data(), rows, columns);
    if (turned) return m.transpose();
    return m;
  }

  /// PEFT's value against ours, within atol + rtol |value| of the file. Nothing when the file does not hold this tensor.
  template <class Got>
  [[nodiscard]] std::optional<worst> compare(std::string const& tensor, Got const& got, bool turned = false) const {
    if (!has(tensor + "64")) return {};
    auto const it = tol_.find(tensor);
    if (it == tol_.end() || !it->is_object() || !it->contains("rtol") || !it->contains("atol") ||
        !(*it)["rtol"].is_number() || !(*it)["atol"].is_number())
      refuse("has no tolerance in the metadata", tensor);
    auto const want = read<matrix64>(tensor + "64", turned);
    expects_shape(tensor, want.rows(), want.cols(), got.rows(), got.cols());
    worst w;
    w.take(got, want,
           matrix64((want.cwiseAbs() * (*it)["rtol"].template get<double>()).array() +
                    (*it)["atol"].template get<double>()));
    return w;
  }

  void expects_shape(std::string const& tensor, Eigen::Index rows, Eigen::Index columns, Eigen::Index want_rows,
                     Eigen::Index want_columns) const {
    if (rows != want_rows || columns != want_columns)
      refuse("has " + std::to_string(rows) + " x " + std::to_string(columns) + " elements but the adapter implies " +
                 std::to_string(want_rows) + " x " + std::to_string(want_columns),
             tensor);
  }

 private:
  [[noreturn]] void refuse(std::string const& what, std::string const& tensor = {}) const {
    throw graft::io::format_error("graft: " + graft::io::escaped(file_.path()) + ": " +
                                      (tensor.empty() ? "" : graft::io::escaped(tensor) + ": ") + what,
                                  file_.path(), tensor);
  }
  [[nodiscard]] nlohmann::json metadata(std::string const& key) const {
    auto const it = file_.metadata().find(key);
    auto value =
        it == file_.metadata().end() ? nlohmann::json::object() : nlohmann::json::parse(it->second, nullptr, false);
    if (value.is_discarded() || (!value.is_object() && !value.is_array()) ||
        (it == file_.metadata().end() && key != "info"))
      refuse("its metadata has no usable \"" + key + "\"; is this a reference file?");
    return value;
  }

  graft::io::safetensors_file file_;
  nlohmann::json tol_;
  nlohmann::json info_;
  std::vector<std::string> modules_;
};

}  // namespace demo
