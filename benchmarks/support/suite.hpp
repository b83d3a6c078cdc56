// SPDX-License-Identifier: Apache-2.0
// What a suite is made of. A file <layer>/<header>.bench.cpp defines one `bench::suite` named as its header, which adds cases:
//
//     bench::add<problem>(bench::label<float>({{"T", T}, {"r", r}}), {.flops = ..., .read = ..., .written = ...},
//                         [=] { return problem(T, r); },
//                         {bench::check(&problem::v, 1e-5, [](problem const& p, index_t i) { return ...; })},
//                         {{"graft", [](problem& p, graft::openmp const& ex) { ... }}, {"eigen", ...}});
//
// For one thread and for all of them every column is one case; the first one also with cold caches. Before it is timed, a column
// runs once on a new problem, and what it wrote is compared with a formula in double at some sixty places.
#pragma once

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/buffers.hpp"

namespace bench {

/// What a call must do at least, from the cost that its docstring documents: bytes that are read only, read and written, and
/// written only.
struct work {
  double flops = 0;
  double read = 0;
  double updated = 0;
  double written = 0;
  [[nodiscard]] double bytes() const { return read + 2 * updated + written; }
};

/// One of the numbers that a call writes: got(i) of the problem after it, want(i) of the problem before it.
template <class P>
struct check_of {
  std::function<index_t(P const&)> count;
  std::function<double(P const&, index_t)> got;
  std::function<double(P const&, index_t)> want;
  double tolerance;  // of the largest number wanted
};
/// The numbers of a member of P, or of a base of it.
template <class T, class C, class Want>
struct check_of_member {
  buffer<T> C::* out;
  double tolerance;
  Want want;
  template <class P>
  operator check_of<P>() const {  // NOLINT: in lists of check_of<P>
    return {[out = out](P const& p) { return static_cast<index_t>((p.*out).size()); },
            [out = out](P const& p, index_t i) { return value(p.*out, i); }, want, tolerance};
  }
};
template <class T, class C, class Want>
check_of_member<T, C, Want> check(buffer<T> C::* out, double tolerance, Want want) {
  return {out, tolerance, std::move(want)};
}
/// Relative to the largest number, what sums of a few thousand terms in fp32 may be off, or one rounding to 16 bits.
template <class T>
inline constexpr double tolerance = sizeof(T) == 2 ? 0x1p-8 : 2e-5;

/// `same`: it gives what the checks want. Others are measured for comparison only.
template <class P>
struct column {
  std::string name;
  std::function<void(P&, graft::openmp const&)> call;
  bool same = true;
};

namespace detail {
struct any_check {
  std::function<index_t(void const*)> count;
  std::function<double(void const*, index_t)> got, want;
  double tolerance;
};
struct any_column {
  std::string name;
  std::function<void(void*, graft::openmp const&)> call;
  bool same;
};
void add_cases(std::string const& name, work const& of, std::function<std::shared_ptr<void>()> make,
               std::vector<any_check> checks, std::vector<any_column> columns);
}  // namespace detail

template <class P>
void add(std::string const& name, work const& of, std::function<P()> make, std::vector<check_of<P>> const& checks,
         std::vector<column<P>> const& columns) {
  std::vector<detail::any_check> all_checks;
  std::vector<detail::any_column> all_columns;
  auto const at = [](void const* p) -> P const& { return *static_cast<P const*>(p); };
  for (auto const& c : checks)
    all_checks.push_back({[=](void const* p) { return c.count(at(p)); },
                          [=](void const* p, index_t i) { return c.got(at(p), i); },
                          [=](void const* p, index_t i) { return c.want(at(p), i); }, c.tolerance});
  for (auto const& c : columns)
    all_columns.push_back(
        {c.name, [call = c.call](void* p, graft::openmp const& ex) { call(*static_cast<P*>(p), ex); }, c.same});
  detail::add_cases(
      name, of, [make = std::move(make)] { return std::make_shared<P>(make()); }, std::move(all_checks),
      std::move(all_columns));
}

/// "fp32/T=8/r=16"
template <class T>
std::string label(std::initializer_list<std::pair<char const*, index_t>> const& extents) {
  std::string text = sizeof(T) == 2 ? "bf16" : "fp32";
  for (auto const& [name, extent] : extents) text += std::string("/") + name + "=" + std::to_string(extent);
  return text;
}

/// A suite: names of its cases begin with its own. `add` is called when the program starts.
struct suite {
  suite(char const* name, void (*add_all)());
};

/// main of a program of suites. What is behind "bench::suite" runs, then Google Benchmark with `argv`. Nonzero when a result was wrong.
int run(int argc, char** argv);

}  // namespace bench
