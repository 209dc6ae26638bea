// Runs every file of a fuzz target's corpus through LLVMFuzzerTestOneInput, one GoogleTest case for
// each, without libFuzzer: in ordinary and in sanitizer builds, with any compiler. A case passes
// when the target returns; a finding of a sanitizer or of WEIR_CHECK ends the process.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace weir {
namespace {

class ReplayTest : public testing::Test {
 public:
  explicit ReplayTest(std::filesystem::path path) : path_(std::move(path)) {}

  void TestBody() override {
    std::ifstream stream(path_, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(stream),
                           std::istreambuf_iterator<char>()};
    ASSERT_FALSE(stream.bad()) << path_;
    // A heap copy of exactly this size, so that reading past its end is seen.
    const std::vector<uint8_t> input(text.begin(), text.end());
    EXPECT_EQ(LLVMFuzzerTestOneInput(input.data(), input.size()), 0) << path_;
  }

 private:
  std::filesystem::path path_;
};

std::vector<std::filesystem::path> CorpusFiles() {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(WEIR_FUZZ_CORPUS, error)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const auto files = weir::CorpusFiles();
  if (files.empty()) {
    std::fprintf(stderr, "no corpus: %s has no files (run from the root of the repository)\n",
                 WEIR_FUZZ_CORPUS);
    return 1;
  }
  for (const auto& path : files) {
    testing::RegisterTest("FuzzReplay_" WEIR_FUZZ_STEM, path.filename().c_str(), nullptr, nullptr,
                          __FILE__, __LINE__,
                          [path]() -> weir::ReplayTest* { return new weir::ReplayTest(path); });
  }
  return RUN_ALL_TESTS();
}
