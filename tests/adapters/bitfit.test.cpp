#include <graft/adapters/bitfit.hpp>

#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/ia3.hpp>
#include <graft/adapters/lora.hpp>

#include "adapters/problem.hpp"
#include "adapters/rescaled_layer.hpp"

using graft::bitfit;
using graft::ia3;
using graft::index_t;
using graft::view;
using namespace tests;

TEST_CASE("BitFit, checked by hand", "[adapters][bitfit]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> const b{1, -1}, W{1, 2, 3, 4}, x{1, 1};
    std::vector<float> y{1, 2}, w = W, bias{10, 20};
    add_delta(ex, bitfit{view(b)}, view(x, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<float>{2, 1});
    merge(ex, bitfit{view(b)}, view(w, 2, 2), view(bias));
    CHECK(bias == std::vector<float>{11, 19});
    CHECK(w == W);
    unmerge(ex, bitfit{view(b)}, view(w, 2, 2), view(bias));
    CHECK(bias == std::vector<float>{10, 20});
    CHECK(parameter_count(bitfit{view(b)}) == 2);
  });
}

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

TEST_CASE("BitFit: what does not fit is refused before anything is written", "[adapters][bitfit]") {
  std::vector<float> v(8, 1.0F), w(32, 2.0F), y(8, 3.0F);
  graft::serial const ex;
  auto const refused = [&](auto const& call, std::string const& sentence) {
    CHECK_THROWS_MATCHES(call(), graft::error, Catch::Matchers::Message(sentence));
    CHECK(w == std::vector<float>(32, 2.0F));
    CHECK(y == std::vector<float>(8, 3.0F));
  };
  refused([&] { merge(ex, bitfit{view(v)}, view(w, 4, 8), view(y)); },
          "graft::merge: extent 0 of W[4, 8] is 4 but extent 0 of the bias[8] is 8; they must be equal");
  refused([&] { static_cast<void>(output_rows(bitfit{view(v)}, 7, 2)); }, "graft::output_rows: rows 7 + 2 of [8]");
}
