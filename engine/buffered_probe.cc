#include "engine/buffered_probe.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/clock.h"
#include "io/file.h"
#include "io/file_mapping.h"
#include "kernels/memory_limits.h"

namespace weir {
namespace {

constexpr uint64_t kBlockBytes = 1 * kMiB;

struct Piece {
  uint64_t bytes = 0;
  double bytes_per_s = 0;
};

class BufferedProbe {
 public:
  BufferedProbe(const File& file, const BufferedProbeOptions& options,
                const std::function<bool()>& go_on)
      : file_(file), options_(options), go_on_(go_on), buffer_(kBlockBytes) {}

  absl::StatusOr<BufferedProbeResult> Run() {
    BufferedProbeResult result;
    result.block_bytes = kBlockBytes;
    result.hot.cached_share = 1;
    std::vector<double> cold, hot;
    uint64_t begin_bytes = 0;
    for (int round = 0; round < options_.rounds; ++round) {
      DropPagesOf(file_);
      WEIR_ASSIGN_OR_RETURN(const double left, CachedShare(0, file_.size_bytes()));
      result.cold.cached_share = std::max(result.cold.cached_share, left);
      WEIR_ASSIGN_OR_RETURN(const Piece piece, Read(begin_bytes, 0, &result.cold));
      WEIR_ASSIGN_OR_RETURN(const double there, CachedShare(begin_bytes, piece.bytes));
      result.hot.cached_share = std::min(result.hot.cached_share, there);
      WEIR_ASSIGN_OR_RETURN(const Piece again, Read(begin_bytes, piece.bytes, &result.hot));
      cold.push_back(piece.bytes_per_s);
      hot.push_back(again.bytes_per_s);
      begin_bytes += piece.bytes;
      if (begin_bytes >= file_.size_bytes()) begin_bytes = 0;
    }
    result.cold.rate = SpreadOfRates(cold);
    result.hot.rate = SpreadOfRates(hot);
    return result;
  }

 private:
  // From `begin_bytes` on: `exact_bytes`, or when that is 0 until time, bytes or file are over.
  absl::StatusOr<Piece> Read(uint64_t begin_bytes, uint64_t exact_bytes, BufferedReads* reads) {
    const std::optional<uint64_t> kernel_before = ReadProcessCounters().disk_read_bytes;
    const int64_t begin_ns = clock_.NowNs();
    const uint64_t most = std::min(exact_bytes > 0 ? exact_bytes : options_.most_bytes,
                                   file_.size_bytes() - begin_bytes);
    Piece piece;
    int64_t ns = 0;
    while (piece.bytes < most && (exact_bytes > 0 || piece.bytes == 0 || ns < options_.limit_ns)) {
      const uint64_t bytes = std::min<uint64_t>(kBlockBytes, most - piece.bytes);
      WEIR_RETURN_IF_ERROR(
          file_.ReadExactly(begin_bytes + piece.bytes, absl::MakeSpan(buffer_.data(), bytes)));
      piece.bytes += bytes;
      ns = clock_.NowNs() - begin_ns;
      if (go_on_ && !go_on_()) return absl::CancelledError("interrupted");
    }
    piece.bytes_per_s =
        1e9 * static_cast<double>(piece.bytes) / static_cast<double>(std::max<int64_t>(ns, 1));
    reads->read_bytes += piece.bytes;
    const std::optional<uint64_t> kernel_after = ReadProcessCounters().disk_read_bytes;
    if (kernel_before && kernel_after) {
      reads->kernel_read_bytes =
          reads->kernel_read_bytes.value_or(0) + *kernel_after - *kernel_before;
    }
    return piece;
  }

  absl::StatusOr<double> CachedShare(uint64_t begin_bytes, uint64_t bytes) const {
    WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<FileMapping> range,
                          FileMapping::Open(file_, begin_bytes, bytes));
    return range->CachedShare();
  }

  const RealClock clock_;
  const File& file_;
  const BufferedProbeOptions& options_;
  const std::function<bool()>& go_on_;
  std::vector<uint8_t> buffer_;
};

}  // namespace

absl::StatusOr<BufferedProbeResult> ProbeBuffered(const std::string& path,
                                                  const BufferedProbeOptions& options,
                                                  const std::function<bool()>& go_on) {
  if (options.limit_ns <= 0 || options.rounds < 1 || options.most_bytes == 0) {
    return absl::InvalidArgumentError(absl::StrCat("buffered probe: ", options.rounds,
                                                   " rounds of ", options.limit_ns,
                                                   " ns are not possible"));
  }
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, File::Open(path, FileMode::kBuffered));
  if (file->size_bytes() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is empty: there is nothing to measure"));
  }
  return BufferedProbe(*file, options, go_on).Run();
}

}  // namespace weir
