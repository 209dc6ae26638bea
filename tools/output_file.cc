#include "tools/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"

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
  output.is_open_ = true;
  if (path == "-") {
    output.file_ = stdout;
    return output;
  }
  std::error_code error;
  const std::filesystem::path target = std::filesystem::weakly_canonical(path, error);
  const std::string folder = error ? "" : target.parent_path().string();
  struct stat info = {};
  const bool exists = stat(path.c_str(), &info) == 0;
  const bool is_regular = !exists || S_ISREG(info.st_mode);
  const bool is_locked = exists && access(path.c_str(), W_OK) != 0;
  if (!is_regular || is_locked || access(folder.c_str(), W_OK | X_OK) != 0) {
    WEIR_RETURN_IF_ERROR(output.OpenInPlace());
    return output;
  }
  output.target_path_ = target.string();
  if (exists) output.mode_ = info.st_mode & 07777;
  return output;
}

absl::Status OutputFile::OpenInPlace() {
  const int descriptor = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor >= 0) file_ = fdopen(descriptor, "wb");
  if (file_ == nullptr) {
    absl::Status status = OutputError(path_, "cannot be opened for writing");
    if (descriptor >= 0) close(descriptor);
    return status;
  }
  has_old_text_ = true;
  return absl::OkStatus();
}

OutputFile::OutputFile(OutputFile&& other) noexcept { *this = std::move(other); }

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(target_path_, other.target_path_);
  std::swap(part_path_, other.part_path_);
  std::swap(mode_, other.mode_);
  std::swap(file_, other.file_);
  std::swap(is_open_, other.is_open_);
  std::swap(has_old_text_, other.has_old_text_);
  return *this;
}

OutputFile::~OutputFile() {
  if (file_ != nullptr && file_ != stdout) std::fclose(file_);
  if (!part_path_.empty()) unlink(part_path_.c_str());
}

absl::Status OutputFile::Begin() {
  if (file_ != nullptr) {
    DropOldText();
    return absl::OkStatus();
  }
  part_path_ = absl::StrCat(target_path_, ".part", getpid());
  const int descriptor = open(part_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode_);
  if (descriptor >= 0) file_ = fdopen(descriptor, "wb");
  if (file_ != nullptr) return absl::OkStatus();
  absl::Status status = OutputError(part_path_, "cannot be opened for writing");
  if (descriptor >= 0) {
    close(descriptor);
  } else {
    part_path_.clear();
  }
  return status;
}

void OutputFile::DropOldText() {
  // Pipes and devices refuse, and have nothing to drop.
  if (std::exchange(has_old_text_, false)) (void)!ftruncate(fileno(file_), 0);
}

absl::Status OutputFile::Write(std::string_view text) {
  if (!is_open_) return absl::OkStatus();
  WEIR_RETURN_IF_ERROR(Begin());
  if (std::fwrite(text.data(), 1, text.size(), file_) == text.size()) return absl::OkStatus();
  return OutputError(path_, "cannot be written");
}

absl::Status OutputFile::Close() {
  if (!is_open_) return absl::OkStatus();
  WEIR_RETURN_IF_ERROR(Begin());
  is_open_ = false;
  std::FILE* file = std::exchange(file_, nullptr);
  const bool failed = file == stdout ? std::fflush(file) != 0 : std::fclose(file) != 0;
  if (failed) return OutputError(path_, "cannot be written");
  if (part_path_.empty()) return absl::OkStatus();
  if (rename(part_path_.c_str(), target_path_.c_str()) != 0) {
    return OutputError(path_, "cannot be replaced");
  }
  part_path_.clear();
  return absl::OkStatus();
}

absl::Status WriteWhole(OutputFile* file, std::string_view text) {
  absl::Status written = file->Write(text);
  written.Update(file->Close());
  return WithExitCode(ExitCode::kOutput, written);
}

absl::Status PrintText(std::string_view text) {
  absl::StatusOr<OutputFile> output = OutputFile::Open("-");
  if (!output.ok()) return WithExitCode(ExitCode::kOutput, output.status());
  return WriteWhole(&*output, text);
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
  if (failed && error == EINTR) WEIR_RETURN_IF_ERROR(CheckInterrupted());
  if (!failed) return text;
  return WithExitCode(
      ExitCode::kBadModel,
      absl::UnavailableError(absl::StrCat(path, ": cannot be read: ", std::strerror(error),
                                          ". Give the path of a file, or - for standard input")));
}

}  // namespace weir
