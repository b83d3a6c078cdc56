// Every host body in one unit, and a verb that calls some: what shared_symbols.cmake looks into.
#include <graft/openmp.hpp>
//
#include <graft/graft.hpp>

#include "shared.hpp"

graft::detail::all_host_bodies const& all() {
  float y[two_tu::T * two_tu::m];
  two_tu::run(graft::openmp{.threads = 2}, y);
  return graft::detail::host_bodies<graft::detail::all_host_bodies>();
}
