#include "io/system_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "io/base.h"

namespace weir {
namespace {

bool IsOctal(char letter) { return letter >= '0' && letter <= '7'; }

// Space, tab, newline and backslash are written as \040 and the like.
std::string Unescape(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_escape = text[i] == '\\' && i + 3 < text.size() && IsOctal(text[i + 1]) &&
                           IsOctal(text[i + 2]) && IsOctal(text[i + 3]);
    if (!is_escape) {
      plain.push_back(text[i]);
      continue;
    }
    const int value = (text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0');
    plain.push_back(static_cast<char>(value));
    i += 3;
  }
  return plain;
}

}  // namespace

std::optional<std::string> ReadSystemFile(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return std::nullopt;
  std::string text;
  char block[4096];
  ssize_t got = 0;
  while (text.size() < kMiB) {
    got = read(descriptor, block, sizeof(block));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(block, static_cast<size_t>(got));
  }
  close(descriptor);
  if (got < 0) return std::nullopt;
  return text;
}

std::optional<uint64_t> ReadSystemNumber(const std::string& path) {
  const std::optional<std::string> text = ReadSystemFile(path);
  uint64_t value = 0;
  if (!text || !absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &value)) return std::nullopt;
  return value;
}

std::optional<uint64_t> FindSystemNumber(std::string_view text, std::string_view name) {
  for (absl::string_view line : absl::StrSplit(AbslView(text), '\n')) {
    if (!absl::ConsumePrefix(&line, AbslView(name))) continue;
    absl::ConsumePrefix(&line, ":");
    if (line.empty() || !absl::ascii_isspace(line.front())) continue;  // a longer name
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    uint64_t value = 0;
    if (words.empty() || !absl::SimpleAtoi(words[0], &value)) return std::nullopt;
    const bool is_kib = words.size() > 1 && words[1] == "kB";
    if (is_kib && !CheckedMul(value, kKiB, &value)) return std::nullopt;
    return value;
  }
  return std::nullopt;
}

std::vector<Mount> ReadMounts(const std::string& root) {
  std::vector<Mount> mounts;
  const std::optional<std::string> text = ReadSystemFile(root + "/proc/self/mountinfo");
  if (!text) return mounts;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    // id parent device root mount_point options [optional fields] - type source super_options
    const std::vector<absl::string_view> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<absl::string_view> left = absl::StrSplit(halves[0], ' ');
    const std::vector<absl::string_view> right = absl::StrSplit(halves[1], ' ');
    if (left.size() < 6 || right.size() < 3) continue;
    Mount mount;
    mount.device = std::string(left[2]);
    mount.root = Unescape(left[3]);
    mount.mount_point = Unescape(left[4]);
    mount.type = std::string(right[0]);
    mount.source = Unescape(right[1]);
    mount.super_options = std::string(right[2]);
    mounts.push_back(mount);
  }
  return mounts;
}

}  // namespace weir
