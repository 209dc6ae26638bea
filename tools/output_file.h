// OutputFile: a result file (--json, --trace) that is opened before the work, so that a path that
// cannot be written is refused before an hour was spent.
#ifndef WEIR_TOOLS_OUTPUT_FILE_H_
#define WEIR_TOOLS_OUTPUT_FILE_H_

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace weir {

class OutputFile {
 public:
  // Refuses a path that cannot be written. A regular file appears under its name, in the place of
  // what was there, when it is whole and closed: a command that fails or is interrupted has neither
  // destroyed nor left anything. Until then the bytes are in a file beside it. Pipes and devices,
  // and a file in a folder that takes no new ones, are written where they are. "-" is standard
  // output; empty: Write does nothing.
  static absl::StatusOr<OutputFile> Open(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  bool is_open() const { return is_open_; }
  const std::string& path() const { return path_; }
  absl::Status Write(std::string_view text);
  // Flushes and closes; the last chance to hear of a full disk.
  absl::Status Close();

 private:
  OutputFile() = default;
  absl::Status OpenInPlace();
  absl::Status Begin();  // before the first byte
  void DropOldText();

  std::string path_;
  std::string target_path_;  // what `path_` leads to; empty: written in place
  std::string part_path_;    // where the bytes are until then; empty: no such file
  uint32_t mode_ = 0666;     // of the target
  std::FILE* file_ = nullptr;
  bool is_open_ = false;
  bool has_old_text_ = false;
};

// Writes and closes; failing has the exit code of results that cannot be written.
absl::Status WriteWhole(OutputFile* file, std::string_view text);

// The same with standard output.
absl::Status PrintText(std::string_view text);

// The whole of a text file; "-" is standard input. NotFound and others name the path.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

}  // namespace weir

#endif  // WEIR_TOOLS_OUTPUT_FILE_H_
