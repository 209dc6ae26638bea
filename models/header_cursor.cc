#include "models/header_cursor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "io/base.h"

namespace weir {

HeaderCursor::HeaderCursor(std::string_view header, uint64_t file_bytes, std::string path)
    : path_(std::move(path)), file_bytes_(file_bytes), window_(header.substr(0, file_bytes)) {}

HeaderCursor::HeaderCursor(const File* file)
    : file_(file), path_(file->path()), file_bytes_(file->size_bytes()) {}

absl::Status HeaderCursor::CheckRemaining(uint64_t bytes, absl::string_view what) const {
  if (bytes <= remaining_bytes()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(path_, ": at offset ", offset_bytes_, ", ", what, " needs ", bytes,
                   " bytes, but the file has ", remaining_bytes(), " more (", file_bytes_,
                   " in all). The file is truncated or damaged; download it again."));
}

absl::StatusOr<std::string_view> HeaderCursor::Take(uint64_t bytes, absl::string_view what) {
  WEIR_CHECK(bytes <= kWindowBytes);
  WEIR_RETURN_IF_ERROR(CheckRemaining(bytes, what));
  const uint64_t skip = offset_bytes_ - window_offset_bytes_;
  if (skip > window_.size() || window_.size() - skip < bytes) {
    WEIR_RETURN_IF_ERROR(Refill(bytes, what));
  }
  const std::string_view taken = window_.substr(offset_bytes_ - window_offset_bytes_, bytes);
  offset_bytes_ += bytes;
  return taken;
}

absl::StatusOr<std::string> HeaderCursor::TakeString(uint64_t bytes, absl::string_view what) {
  WEIR_RETURN_IF_ERROR(CheckRemaining(bytes, what));
  std::string text;
  text.reserve(bytes);
  while (text.size() < bytes) {
    const uint64_t piece = std::min(bytes - text.size(), kWindowBytes);
    WEIR_ASSIGN_OR_RETURN(const std::string_view taken, Take(piece, what));
    text.append(taken);
  }
  return text;
}

absl::Status HeaderCursor::Refill(uint64_t bytes, absl::string_view what) {
  if (file_ == nullptr) {
    return absl::OutOfRangeError(absl::StrCat(path_, ": at offset ", offset_bytes_, ", ", what,
                                              " needs ", bytes, " bytes; the header at hand has ",
                                              window_.size()));
  }
  buffer_.resize(std::min(kWindowBytes, remaining_bytes()));
  WEIR_RETURN_IF_ERROR(file_->ReadExactly(offset_bytes_, absl::MakeSpan(buffer_)));
  window_ = std::string_view(reinterpret_cast<const char*>(buffer_.data()), buffer_.size());
  window_offset_bytes_ = offset_bytes_;
  return absl::OkStatus();
}

}  // namespace weir
