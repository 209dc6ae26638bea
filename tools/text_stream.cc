#include "tools/text_stream.h"

#include <poll.h>
#include <stdio_ext.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"

namespace weir {
namespace {

constexpr size_t kHeldBytes = 4096;  // longer than the text of any token, so that none allocates

// Length of the character that a lead byte announces; 0 when it is none.
size_t AnnouncedLength(uint8_t lead) {
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  return 0;
}

// Whether a character can begin with these two bytes: some leads leave part of the range to shorter
// forms, to surrogates or to what is beyond U+10FFFF (Unicode, table 3-7).
bool MayFollow(uint8_t lead, uint8_t continuation) {
  if (lead == 0xe0) return continuation >= 0xa0;
  if (lead == 0xed) return continuation < 0xa0;
  if (lead == 0xf0) return continuation >= 0x90;
  if (lead == 0xf4) return continuation < 0x90;
  return true;
}

bool TakesBytes(int descriptor) {
  pollfd look = {descriptor, POLLOUT, 0};
  return poll(&look, 1, 0) != 0;  // errors too: the write will tell
}

}  // namespace

size_t IncompleteUtf8Suffix(std::string_view text) {
  const size_t most = std::min<size_t>(3, text.size());
  for (size_t back = 1; back <= most; ++back) {
    const auto byte = static_cast<uint8_t>(text[text.size() - back]);
    if ((byte & 0xc0) == 0x80) continue;  // a continuation: look for its lead
    const bool is_begun =
        AnnouncedLength(byte) > back &&
        (back == 1 || MayFollow(byte, static_cast<uint8_t>(text[text.size() - back + 1])));
    return is_begun ? back : 0;
  }
  return 0;
}

TextStream::TextStream(std::FILE* file) : file_(file) { held_.reserve(kHeldBytes); }

absl::Status TextStream::Write(std::string_view bytes) {
  held_.append(bytes);
  const size_t keep = IncompleteUtf8Suffix(held_);
  absl::Status status = WriteNow(std::string_view(held_).substr(0, held_.size() - keep));
  held_.erase(0, held_.size() - keep);
  return status;
}

absl::Status TextStream::Finish() {
  WEIR_RETURN_IF_ERROR(WriteNow(held_));
  held_.clear();
  return last_ == '\n' ? absl::OkStatus() : WriteNow("\n");
}

absl::Status TextStream::WriteNow(std::string_view bytes) {
  if (bytes.empty() || is_cut_off_) return absl::OkStatus();
  // A signal that came before the write does not end it.
  if (Interrupted() && !TakesBytes(fileno(file_))) {
    is_cut_off_ = true;
    return CheckInterrupted();
  }
  last_ = bytes.back();
  const size_t written = std::fwrite(bytes.data(), 1, bytes.size(), file_);
  if (written == bytes.size() && std::fflush(file_) == 0) return absl::OkStatus();
  if (errno == EINTR && Interrupted()) {
    __fpurge(file_);  // or the end of the process would wait to write it
    is_cut_off_ = true;
    return CheckInterrupted();
  }
  return WithExitCode(ExitCode::kOutput, absl::UnavailableError(absl::StrCat(
                                             "standard output: wrote ", written, " of ",
                                             bytes.size(), " bytes: ", std::strerror(errno))));
}

}  // namespace weir
