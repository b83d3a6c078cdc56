// Kokkos for a test program: initialised before the first test by the application, as graft asks for, with four threads
// wherever it runs. Counts what Kokkos launches, and appends the numbers of cases to the file $GRAFT_KOKKOS_CASES.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <catch2/catch_test_case_info.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>

#include "support/executors.hpp"

namespace {

std::atomic<long> host_launches = 0;
std::atomic<long> device_launches = 0;
tests::kokkos_launches cases;
std::vector<std::string>* recorded = nullptr;
std::mutex recording;

void launched(char const* label, std::uint32_t, std::uint64_t*) {
  std::string_view const name(label);
  if (name.ends_with("::host")) ++host_launches;
  if (name.ends_with("::device")) ++device_launches;
  std::lock_guard const hold(recording);
  if (recorded != nullptr) recorded->emplace_back(name);
}

class session : public Catch::EventListenerBase {
 public:
  using EventListenerBase::EventListenerBase;

  void testRunStarting(Catch::TestRunInfo const&) override {
    Kokkos::initialize(Kokkos::InitializationSettings().set_num_threads(4).set_disable_warnings(true));
    Kokkos::Tools::Experimental::set_begin_parallel_for_callback(launched);
  }
  void testRunEnded(Catch::TestRunStats const&) override {
    Kokkos::finalize();
    char const* const file = std::getenv("GRAFT_KOKKOS_CASES");
    if (file != nullptr) std::ofstream(file, std::ios::app) << cases.host << ' ' << cases.device << '\n' << std::flush;
  }
};
CATCH_REGISTER_LISTENER(session)

}  // namespace

tests::kokkos_launches tests::kokkos_launched() { return {host_launches, device_launches}; }
void tests::count_kokkos_case(kokkos_launches const& before) {
  cases.host += host_launches > before.host ? 1 : 0;
  cases.device += device_launches > before.device ? 1 : 0;
}
std::vector<std::string> tests::kokkos_labels_of(std::function<void()> const& f) {
  std::vector<std::string> labels;
  auto const record = [](std::vector<std::string>* to) {
    std::lock_guard const hold(recording);
    recorded = to;
  };
  record(&labels);
  f();
  record(nullptr);
  return labels;
}
