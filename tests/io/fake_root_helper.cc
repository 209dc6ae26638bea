#include "tests/io/fake_root_helper.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "io/base.h"

namespace weir {

FakeRoot::FakeRoot() : path_(::testing::TempDir() + "weir_root_XXXXXX") {
  WEIR_CHECK(mkdtemp(path_.data()) != nullptr);
}

FakeRoot::~FakeRoot() { std::filesystem::remove_all(path_); }

void FakeRoot::Write(const std::string& path, std::string_view text) const {
  const std::filesystem::path full = path_ + path;
  std::filesystem::create_directories(full.parent_path());
  std::ofstream file(full, std::ios::binary);
  file << text;
  file.close();
  WEIR_CHECK(file.good());
}

void FakeRoot::Link(const std::string& path, const std::string& target) const {
  const std::filesystem::path full = path_ + path;
  std::filesystem::create_directories(full.parent_path());
  std::filesystem::create_symlink(target, full);
}

void FakeRoot::MakeFolder(const std::string& path) const {
  std::filesystem::create_directories(path_ + path);
}

}  // namespace weir
