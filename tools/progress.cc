#include "tools/progress.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

namespace weir {
namespace {

constexpr int64_t kQuietNs = 1'000'000'000;
constexpr int64_t kTerminalIntervalNs = 100'000'000;
constexpr int64_t kLogIntervalNs = 5'000'000'000;
constexpr double kLeastShareForEta = 0.02;

}  // namespace

ProgressLine::ProgressLine(std::string what) : is_terminal_(isatty(STDERR_FILENO) == 1) {
  Restart(std::move(what));
}

void ProgressLine::Restart(std::string what) {
  what_ = std::move(what);
  begin_ns_ = clock_.NowNs();
  last_ns_ = begin_ns_;
  has_begin_bytes_ = false;
}

void ProgressLine::Update(double share, uint64_t bytes) {
  const int64_t now_ns = clock_.NowNs();
  if (!has_begin_bytes_) {
    begin_bytes_ = bytes;
    has_begin_bytes_ = true;
  }
  if (now_ns - begin_ns_ < kQuietNs) return;
  const int64_t interval_ns = is_terminal_ ? kTerminalIntervalNs : kLogIntervalNs;
  if (shown_ && now_ns - last_ns_ < interval_ns) return;
  last_ns_ = now_ns;
  shown_ = true;
  const double seconds = static_cast<double>(now_ns - begin_ns_) * 1e-9;
  std::fprintf(stderr, "%s%s: %3.0f %%", is_terminal_ ? "\r\033[K" : "weir: ", what_.c_str(),
               share * 100);
  if (bytes > begin_bytes_) {
    std::fprintf(stderr, ", %.2f GB/s", static_cast<double>(bytes - begin_bytes_) * 1e-9 / seconds);
  }
  // A guess from next to nothing would only alarm.
  if (share >= kLeastShareForEta)
    std::fprintf(stderr, ", %.0f s left", seconds * (1 - share) / share);
  if (!is_terminal_) std::fputs("\n", stderr);
  std::fflush(stderr);
}

void ProgressLine::Finish() {
  if (shown_ && is_terminal_) std::fputs("\r\033[K", stderr);
  shown_ = false;
}

}  // namespace weir
