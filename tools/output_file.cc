#include "tools/output_file.h"

#include <fcntl.h>
#include <unistd.h>

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
  if (path == "-") {
    output.file_ = stdout;
    return output;
  }
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor >= 0) output.file_ = fdopen(descriptor, "wb");
  if (output.file_ == nullptr) {
    const absl::Status status = OutputError(path, "cannot be opened for writing");
    if (descriptor >= 0) close(descriptor);
    return status;
  }
  output.has_old_text_ = true;
  return output;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, nullptr)),
      has_old_text_(other.has_old_text_) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  std::swap(has_old_text_, other.has_old_text_);
  return *this;
}

OutputFile::~OutputFile() {
  if (file_ != nullptr && file_ != stdout) std::fclose(file_);
}

void OutputFile::DropOldText() {
  // Pipes and devices refuse, and have nothing to drop.
  if (std::exchange(has_old_text_, false)) (void)!ftruncate(fileno(file_), 0);
}

absl::Status OutputFile::Write(std::string_view text) {
  if (file_ != nullptr) DropOldText();
  if (file_ == nullptr || std::fwrite(text.data(), 1, text.size(), file_) == text.size()) {
    return absl::OkStatus();
  }
  return OutputError(path_, "cannot be written");
}

absl::Status OutputFile::Close() {
  if (file_ == nullptr) return absl::OkStatus();
  DropOldText();
  std::FILE* file = std::exchange(file_, nullptr);
  const bool failed = file == stdout ? std::fflush(file) != 0 : std::fclose(file) != 0;
  return failed ? OutputError(path_, "cannot be written") : absl::OkStatus();
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  std::FILE* file = path == "-" ? stdin : std::fopen(path.c_str(), "rb");
  if (file == nullptr) {
    return WithExitCode(
        ExitCode::kBadModel,
        absl::NotFoundError(absl::StrCat(path, ": cannot be read: ", std::strerror(errno),
                                         ". Give the path of a file, or - for standard input")));
  }
  std::string text;
  char piece[65536];
  size_t got = 0;
  while ((got = std::fread(piece, 1, sizeof(piece), file)) > 0) text.append(piece, got);
  const bool failed = std::ferror(file) != 0;
  const int error = errno;
  if (file != stdin) std::fclose(file);
  if (!failed) return text;
  return WithExitCode(
      ExitCode::kBadModel,
      absl::UnavailableError(absl::StrCat(path, ": cannot be read: ", std::strerror(error),
                                          ". Give the path of a file, or - for standard input")));
}

}  // namespace weir
