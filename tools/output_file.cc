#include "tools/output_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "tools/exit_codes.h"

namespace weir {
namespace {

absl::Status OutputError(const std::string& path, const char* what) {
  return WithExitCode(ExitCode::kOutput, absl::UnavailableError(absl::StrCat(
                                             path, ": ", what, ": ", std::strerror(errno),
                                             ". Give a path that can be written")));
}

}  // namespace

absl::StatusOr<OutputFile> OutputFile::Open(const std::string& path) {
  OutputFile output;
  output.path_ = path;
  if (path.empty()) return output;
  output.file_ = path == "-" ? stdout : std::fopen(path.c_str(), "wb");
  if (output.file_ == nullptr) return OutputError(path, "cannot be opened for writing");
  return output;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, nullptr)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  return *this;
}

OutputFile::~OutputFile() {
  if (file_ != nullptr && file_ != stdout) std::fclose(file_);
}

absl::Status OutputFile::Write(std::string_view text) {
  if (file_ == nullptr || std::fwrite(text.data(), 1, text.size(), file_) == text.size()) {
    return absl::OkStatus();
  }
  return OutputError(path_, "cannot be written");
}

absl::Status OutputFile::Close() {
  std::FILE* file = std::exchange(file_, nullptr);
  if (file == nullptr) return absl::OkStatus();
  const bool failed = file == stdout ? std::fflush(file) != 0 : std::fclose(file) != 0;
  return failed ? OutputError(path_, "cannot be written") : absl::OkStatus();
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  std::FILE* file = path == "-" ? stdin : std::fopen(path.c_str(), "rb");
  if (file == nullptr) {
    return WithExitCode(
        ExitCode::kBadModel,
        absl::NotFoundError(absl::StrCat(path, ": cannot be read: ", std::strerror(errno))));
  }
  std::string text;
  char piece[65536];
  size_t got = 0;
  while ((got = std::fread(piece, 1, sizeof(piece), file)) > 0) text.append(piece, got);
  const bool failed = std::ferror(file) != 0;
  const int error = errno;
  if (file != stdin) std::fclose(file);
  if (!failed) return text;
  return WithExitCode(ExitCode::kBadModel, absl::UnavailableError(absl::StrCat(
                                               path, ": cannot be read: ", std::strerror(error))));
}

}  // namespace weir
