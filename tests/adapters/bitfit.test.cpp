#include <graft/adapters/bitfit.hpp>

#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/ia3.hpp>
#include <graft/adapters/lora.hpp>

#include "adapters/rescaled_layer.hpp"

using graft::bitfit;
using graft::ia3;
using graft::index_t;
using graft::view;
using namespace tests;

TEST_CASE("a LoRA, a BitFit and an (IA)3 around a layer: its bias and theirs are scaled, merged or not",
          "[adapters][ia3][bitfit]") {
  rescaled_layer p;
  index_t const r = 2;
  std::vector<double> A = random_numbers<double>(r * n, 5), B = random_numbers<double>(m * r, 6),
                      l = random_numbers<double>(m, 7);
  std::vector<double> b = random_numbers<double>(m, 8), dA(A.size()), dB(B.size()), dl(l.size()), db(b.size());
  graft::lora const lora{view(A, r, n), view(B, m, r), 0.5, {}};
  obeys_the_laws({&A, &B, &l, &b}, {&dA, &dB, &dl, &db}, p, [&](auto const& use) {
    use(graft::trained{lora, graft::lora_gradients{view(dA, r, n), view(dB, m, r)}, {}},
        graft::trained{ia3{view(l)}, graft::ia3_gradients{view(dl)}, view(p.kept, T, m)},
        graft::trained{bitfit{view(b)}, graft::bitfit_gradients{view(db)}, {}});
  });
}
