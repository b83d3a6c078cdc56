// expect: graft::initialize: orthogonal factorises a matrix on the host, and needs an executor of its memory
// expect: graft::project_gradient: it factorises a matrix on the host, and needs an executor of its memory
#include <graft/graft.hpp>

/// No device: only its memory is another one.
struct elsewhere {
  using space_type = graft::device_space;
  static constexpr int row_block = 4;
  static constexpr bool ordered_scratch = true;
  graft::scratch_arena* scratch = nullptr;
  graft::fault_record* faults = nullptr;
  graft::scratch_arena* resource() const { return scratch; }
  template <class Body>
  void league(graft::index_t, std::size_t, Body const&) const {}
  void fence() const {}
};

int main() {
  auto const A = graft::view_in<graft::device_space>(static_cast<float*>(nullptr), 0, 8);
  auto const B = graft::view_in<graft::device_space>(static_cast<float*>(nullptr), 8, 0);
#if defined(GRAFT_KO)
  initialize(elsewhere{}, graft::lora{.A = A, .B = B, .scale = 1.0}, graft::orthogonal{1});
  project_gradient(elsewhere{}, graft::lora_fa{.A = A, .B = B, .scale = 1.0}, B, B);
#else
  initialize(elsewhere{}, graft::lora{.A = A, .B = B, .scale = 1.0}, graft::kaiming_uniform{1});
#endif
}
