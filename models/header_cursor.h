// HeaderCursor: bounded reading of a binary header, front to back, from memory or from a file
// through a small window. Nothing is read past the end, and no more memory than the window is held.
#ifndef WEIR_MODELS_HEADER_CURSOR_H_
#define WEIR_MODELS_HEADER_CURSOR_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "io/file.h"

namespace weir {

class HeaderCursor {
 public:
  static constexpr uint64_t kWindowBytes = 256 * 1024;

  // Over a header in memory, which may be shorter than its file; `header` must outlive this.
  HeaderCursor(std::string_view header, uint64_t file_bytes, std::string path);
  // Over a file, read through the page cache; `file` must outlive this.
  explicit HeaderCursor(const File* file);

  const std::string& path() const { return path_; }
  uint64_t file_bytes() const { return file_bytes_; }
  uint64_t offset_bytes() const { return offset_bytes_; }
  uint64_t remaining_bytes() const { return file_bytes_ - offset_bytes_; }

  // The next `bytes` (at most kWindowBytes), valid until the next call. `what` names them in
  // errors. DataLoss when the file ends before; OutOfRange when only the header in memory does.
  absl::StatusOr<std::string_view> Take(uint64_t bytes, absl::string_view what);
  // Any length, checked against the file's size before memory is taken.
  absl::StatusOr<std::string> TakeString(uint64_t bytes, absl::string_view what);

  // A little-endian number.
  template <typename T>
  absl::StatusOr<T> TakeNumber(absl::string_view what) {
    absl::StatusOr<std::string_view> bytes = Take(sizeof(T), what);
    if (!bytes.ok()) return std::move(bytes).status();
    T number;
    std::memcpy(&number, bytes->data(), sizeof(T));
    return number;
  }

  // DataLoss unless `bytes` more are in the file.
  absl::Status CheckRemaining(uint64_t bytes, absl::string_view what) const;

 private:
  absl::Status Refill(uint64_t bytes, absl::string_view what);

  const File* file_ = nullptr;  // null: from memory
  std::string path_;
  uint64_t file_bytes_;
  uint64_t offset_bytes_ = 0;  // in the file
  std::string_view window_;    // what is at hand from window_offset_bytes_ on
  uint64_t window_offset_bytes_ = 0;
  std::vector<uint8_t> buffer_;  // backs the window when reading a file
};

}  // namespace weir

#endif  // WEIR_MODELS_HEADER_CURSOR_H_
