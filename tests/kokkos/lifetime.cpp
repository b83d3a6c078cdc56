// Kokkos is the application's: what graft says before it is initialised and after it is finalised, once in a program.
#include <cstdio>
#include <optional>
#include <string>

#include <graft/kokkos.hpp>

namespace {

int wrong = 0;

template <class F>
void expect(std::string const& sentence, F const& f) {
  std::string said;
  try {
    f();
  } catch (graft::argument_error const& e) { said = e.what(); }
  if (said == sentence) return;
  ++wrong;
  std::printf("said: %s\nnot:  %s\n", said.c_str(), sentence.c_str());
}

}  // namespace

int main() {
  std::string const rest =
      "; the application initialises it (Kokkos::initialize or Kokkos::ScopeGuard) before it makes an executor, graft "
      "never does";
  expect("graft::kokkos_executor: Kokkos is not initialised" + rest, [] { graft::kokkos_executor<> const ex; });
  float y = 1;
  float const two = 2;
  auto const call = [&](auto const& ex) {
    graft::kernels::low_rank_add(ex, graft::view(&two, 1, 1), graft::view(&two, 1, 1), graft::view(&two, 1, 1),
                                 graft::view(&y, 1, 1));
    graft::kernels::scale_rows(ex, graft::view(&two, 1), graft::view(&y, 1, 1));
  };
  Kokkos::initialize(Kokkos::InitializationSettings().set_num_threads(2).set_disable_warnings(true));
  {
    graft::kokkos_executor<> const ex;
    call(ex);
    if (y != 18) ++wrong, std::printf("%g is not 18\n", static_cast<double>(y));
  }
  Kokkos::finalize();
  expect("graft::kokkos_executor: Kokkos is finalised" + rest, [] { graft::kokkos_executor<> const ex; });
  return wrong;
}
