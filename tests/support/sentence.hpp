// What went wrong, in graft's words.
#pragma once

#include <string>

#include <graft/contracts.hpp>

namespace tests {

/// The sentence of what `call` throws, or nothing.
template <class Call>
[[nodiscard]] std::string sentence_of(Call const& call) {
  try {
    call();
  } catch (graft::error const& e) { return e.what(); }
  return {};
}

}  // namespace tests
