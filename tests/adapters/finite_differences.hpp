// Gradients against differences of the loss, in double: the law that every backward obeys.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace tests {

[[nodiscard]] inline double inner_product(std::vector<double> const& a, std::vector<double> const& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// The largest distance between `gradient` and the central differences of loss() in every (every seventh of many) parameter,
/// relative to the largest gradient or 1.
template <class Loss>
[[nodiscard, gnu::noinline]] double gradient_error(std::vector<double>& parameters, std::vector<double> const& gradient,
                                                   Loss const& loss) {
  constexpr double step = 0x1p-17;
  double worst = 0;
  double largest = 1;
  for (double const g : gradient) largest = std::max(largest, std::abs(g));
  for (std::size_t i = 0; i < parameters.size(); i += parameters.size() > 200 ? 7 : 1) {
    double const before = parameters[i];
    parameters[i] = before + step;
    double const up = loss();
    parameters[i] = before - step;
    double const down = loss();
    parameters[i] = before;
    worst = std::max(worst, std::abs((up - down) / (2 * step) - gradient[i]));
  }
  return worst / largest;
}

}  // namespace tests
