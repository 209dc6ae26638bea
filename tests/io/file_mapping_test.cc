#include "io/file_mapping.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>

#include "tests/io/fake_root_helper.h"

namespace weir {
namespace {

TEST(FileMapping, ShowsTheRangeAndWhatIsCached) {
  FakeRoot root;
  const uint64_t page = FileMapping::PageBytes();
  std::string text(4 * page + 7, 'x');
  text.replace(page + 5, 4, "here");
  root.Write("/file", text);
  const std::unique_ptr<File> file =
      File::Open(root.path() + "/file", FileMode::kDirectOrBuffered).value();
  const auto range = FileMapping::Open(*file, page + 5, 2 * page).value();
  EXPECT_EQ(range->bytes(), 2 * page);
  EXPECT_EQ(std::memcmp(range->data(), "herexx", 6), 0);
  const auto whole = FileMapping::Open(*file, 0, text.size()).value();
  EXPECT_EQ(std::memcmp(whole->data(), text.data(), text.size()), 0);
  EXPECT_EQ(whole->CachedShare().value(), 1) << "all of it was just read";
}

TEST(FileMapping, WhatWasDroppedIsNoLongerCached) {
  FakeRoot root;
  root.Write("/file", std::string(64 * FileMapping::PageBytes(), 'x'));
  const std::unique_ptr<File> file =
      File::Open(root.path() + "/file", FileMode::kDirectOrBuffered).value();
  if (!file->is_direct()) GTEST_SKIP() << "perhaps this file system has no other place for it";
  DropPagesOf(*file);
  const auto whole = FileMapping::Open(*file, 0, file->size_bytes()).value();
  EXPECT_EQ(whole->CachedShare().value(), 0);
}

}  // namespace
}  // namespace weir
