// OutputFile: a result file (--json, --trace) that is opened before the work, so that a path that
// cannot be written is refused before an hour was spent.
#ifndef WEIR_TOOLS_OUTPUT_FILE_H_
#define WEIR_TOOLS_OUTPUT_FILE_H_

#include <cstdio>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace weir {

class OutputFile {
 public:
  // Creates `path`, or takes the place of what is there once the first byte is written: until then
  // a command that fails has destroyed nothing. "-" is standard output; empty: Write does nothing.
  static absl::StatusOr<OutputFile> Open(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  bool is_open() const { return file_ != nullptr; }
  const std::string& path() const { return path_; }
  absl::Status Write(std::string_view text);
  // Flushes and closes; the last chance to hear of a full disk.
  absl::Status Close();

 private:
  OutputFile() = default;
  void DropOldText();

  std::string path_;
  std::FILE* file_ = nullptr;
  bool has_old_text_ = false;
};

// The whole of a text file; "-" is standard input. NotFound and others name the path.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

}  // namespace weir

#endif  // WEIR_TOOLS_OUTPUT_FILE_H_
