#include "tests/models/gguf_bytes_helper.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "io/base.h"

namespace weir {

TemporaryFolder::TemporaryFolder() {
  std::string shape = (std::filesystem::temp_directory_path() / "weir_test_XXXXXX").string();
  WEIR_CHECK(mkdtemp(shape.data()) != nullptr);
  path_ = shape;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  WEIR_CHECK(file.good());
}

}  // namespace weir
