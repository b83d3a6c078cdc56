// The main of a fuzz target without libFuzzer: takes every file of the folders that it is given once.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);

namespace {

void take(std::filesystem::path const& path) {
  std::ifstream in(path, std::ios::binary);
  std::string const bytes{std::istreambuf_iterator<char>(in), {}};
  std::printf("%s\n", path.c_str());  // the last one is the finding
  std::fflush(stdout);
  LLVMFuzzerTestOneInput(reinterpret_cast<std::uint8_t const*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int count, char** values) {
  int taken = 0;
  for (int i = 1; i < count; ++i) {
    if (!std::filesystem::is_directory(values[i])) {
      take(values[i]), ++taken;
      continue;
    }
    int here = 0;
    for (auto const& each : std::filesystem::recursive_directory_iterator(values[i]))
      if (each.is_regular_file()) take(each.path()), ++here;
    if (here == 0) return std::printf("%s holds no seed\n", values[i]), 1;
    taken += here;
  }
  std::printf("%d inputs\n", taken);
  return taken == 0 ? 1 : 0;
}
