// FakeRoot: a temporary folder that poses as the root of a file system.
#ifndef WEIR_TESTS_IO_FAKE_ROOT_HELPER_H_
#define WEIR_TESTS_IO_FAKE_ROOT_HELPER_H_

#include <string>
#include <string_view>

namespace weir {

class FakeRoot {
 public:
  FakeRoot();
  ~FakeRoot();
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;

  const std::string& path() const { return path_; }
  // `path` begins with a slash; folders are made as needed.
  void Write(const std::string& path, std::string_view text) const;
  void Link(const std::string& path, const std::string& target) const;
  void MakeFolder(const std::string& path) const;

 private:
  std::string path_;
};

}  // namespace weir

#endif  // WEIR_TESTS_IO_FAKE_ROOT_HELPER_H_
