#include <graft/kernels/panels.hpp>

#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include "kernels/parity.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::index_t;
using graft::panels_view;
using graft::view;
using graft::kernels::pack_panels;
using namespace tests;

TEST_CASE("panels hold 64 outputs side by side for each rank, zeros behind the last", "[kernels][panels]") {
  static_assert(panels_view<float>::storage(1, 3) == 192 && panels_view<float>::storage(64, 3) == 192 &&
                panels_view<float>::storage(65, 3) == 384 && panels_view<float>::storage(0, 3) == 0 &&
                panels_view<float>::storage(5, 0) == 0);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    matrix<float> const b(70, 2, layout::contiguous, 5);
    std::vector<float> memory(static_cast<std::size_t>(panels_view<float>::storage(70, 2)), -1.0F);
    panels_view<float> const panels(memory.data(), 70, 2);
    pack_panels(ex, b.view(), panels);
    CHECK(memory[0] == b.view()(0, 0));
    CHECK(memory[63] == b.view()(63, 0));
    CHECK(memory[64] == b.view()(0, 1));
    CHECK(memory[128] == b.view()(64, 0));
    CHECK(memory[128 + 64 + 5] == b.view()(69, 1));
    CHECK(memory[128 + 6] == 0.0F);
    CHECK(memory[255] == 0.0F);
  });
}

TEST_CASE("panels read like the matrix they were made of, for all types and layouts", "[kernels][panels]") {
  tally t;
  int i = 0;
  for (index_t const m : {0, 1, 63, 64, 65, 130})
    for (index_t const r : {0, 1, 3, 17})
      for (int kind = 0; kind < 3; ++kind)
        with_storage(kind, [&]<class B>(std::type_identity<B>) {
          matrix<B> const b(m, r, all_layouts[static_cast<std::size_t>(i++ % 8)], 3);
          for_each_executor([&](std::string const& name, auto const& ex) {
            matrix<B> memory(1, panels_view<B>::storage(m, r));
            panels_view<B> const panels(memory.view().data_handle(), m, r);
            pack_panels(ex, b.view(), panels);
            matrix<B> back(m, r);
            for (index_t o = 0; o < m; ++o)
              for (index_t j = 0; j < r; ++j) back.view()(o, j) = panels(o, j);
            std::string complaint = differences(as_const(back.view()), b.view());
            if (complaint.empty()) complaint = memory.outside();
            t.add(complaint, [&] {
              return name + ", " + type_name<B>() + " " + tests::name(b.how()) + ", " + std::to_string(m) + " x " +
                     std::to_string(r);
            });
          });
        });
  CHECK(t.text() == "");
}

TEST_CASE("packing copies bits, also of a signalling NaN", "[kernels][panels]") {
  std::vector<bfloat16> const b{bfloat16::from_bits(0x7f81), bfloat16::from_bits(0x8000)};
  std::vector<bfloat16> memory(64);
  pack_panels(graft::serial{}, view(b, 2, 1), panels_view<bfloat16>(memory.data(), 2, 1));
  CHECK(memory[0].bits == 0x7f81);
  CHECK(memory[1].bits == 0x8000);
}

TEST_CASE("packing checks its arguments", "[kernels][panels]") {
  std::vector<float> b(6);
  std::vector<float> memory(256);
  using Catch::Matchers::Message;
  CHECK_THROWS_MATCHES(pack_panels(graft::serial{}, view(b, 3, 2), panels_view<float>(memory.data(), 4, 2)),
                       graft::shape_error,
                       Message("graft::kernels::pack_panels: extent 0 of panels[4, 2] is 4 but extent 0 of B[3, 2] is "
                               "3; they must be equal"));
  CHECK_THROWS_MATCHES(pack_panels(graft::serial{}, view(b, 3, 2), panels_view<float>(memory.data(), 3, 3)),
                       graft::shape_error,
                       Message("graft::kernels::pack_panels: extent 1 of panels[3, 3] is 3 but extent 1 of B[3, 2] is "
                               "2; they must be equal"));
  CHECK_THROWS_MATCHES(pack_panels(graft::serial{}, view(b, 3, 2), panels_view<float>(nullptr, 3, 2)),
                       graft::argument_error,
                       Message("graft::kernels::pack_panels: panels[3, 2] has elements but its pointer is null"));
  // The padding behind the last output counts: it is written too.
  CHECK_THROWS_MATCHES(
      pack_panels(graft::serial{}, view(memory.data() + 100, 3, 2), panels_view<float>(memory.data(), 3, 2)),
      graft::argument_error,
      Message("graft::kernels::pack_panels: panels[3, 2] is written but shares memory with B[3, 2]"));
  CHECK_NOTHROW(pack_panels(graft::serial{}, view(memory.data() + 128, 3, 2), panels_view<float>(memory.data(), 3, 2)));
  CHECK_NOTHROW(pack_panels(graft::serial{}, view(memory.data(), 0, 2), panels_view<float>(nullptr, 0, 2)));
}
