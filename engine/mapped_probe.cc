#include "engine/mapped_probe.h"

#include <algorithm>
#include <barrier>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/clock.h"
#include "io/file_mapping.h"

namespace weir {
namespace {

constexpr uint32_t kMaxThreads = 1024;

// A byte of every page; the sum keeps the compiler from leaving them out.
uint64_t TouchPages(const uint8_t* begin, const uint8_t* end) {
  uint64_t sum = 0;
  const uint64_t page_bytes = FileMapping::PageBytes();
  for (const uint8_t* at = begin; at < end; at += page_bytes) {
    sum += *static_cast<const volatile uint8_t*>(at);
  }
  return sum;
}

class Pass {
 public:
  Pass(const std::vector<std::unique_ptr<FileMapping>>& mappings, const Program& program,
       uint32_t threads)
      : mappings_(mappings), program_(program), threads_(threads), done_(threads) {}

  void Run() {
    std::vector<std::thread> workers;
    workers.reserve(threads_);
    for (uint32_t i = 0; i < threads_; ++i) workers.emplace_back([this, i] { Touch(i); });
    for (std::thread& worker : workers) worker.join();
  }

 private:
  // Block after block, a part of each: no thread begins one before all are done with the last.
  void Touch(uint32_t thread) {
    for (const Block& block : program_.blocks) {
      if (block.kind != BlockKind::kWeights) continue;
      for (const Segment& segment : block.segments) {
        const FileMapping& mapping = *mappings_[segment.file];
        const uint64_t end =
            std::min(segment.offset_bytes + segment.required_bytes, mapping.bytes());
        const uint64_t begin = std::min(segment.offset_bytes, end);
        const uint64_t part_bytes =
            AlignUp(CeilDiv(end - begin, threads_), FileMapping::PageBytes());
        const uint64_t own = std::min(end, begin + thread * part_bytes);
        TouchPages(mapping.data() + own, mapping.data() + std::min(end, own + part_bytes));
      }
      done_.arrive_and_wait();
    }
  }

  const std::vector<std::unique_ptr<FileMapping>>& mappings_;
  const Program& program_;
  const uint32_t threads_;
  std::barrier<> done_;
};

}  // namespace

absl::StatusOr<MappedProbeResult> ProbeMapped(const Model& model, const Program& program,
                                              uint32_t threads) {
  if (threads == 0 || threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("mapped probe: ", threads, " threads are not possible"));
  }
  MappedProbeResult result;
  std::vector<std::unique_ptr<FileMapping>> mappings;
  double all_bytes = 0, cached_bytes = 0;
  for (const auto& file : model.files) {
    WEIR_RETURN_IF_ERROR(file->CheckUnchanged());
    DropPagesOf(*file);
    WEIR_ASSIGN_OR_RETURN(std::unique_ptr<FileMapping> mapping,
                          FileMapping::Open(*file, 0, file->size_bytes()));
    WEIR_ASSIGN_OR_RETURN(const double cached_share, mapping->CachedShare());
    const auto bytes = static_cast<double>(mapping->bytes());
    all_bytes += bytes;
    cached_bytes += cached_share * bytes;
    mappings.push_back(std::move(mapping));
  }
  result.cached_share = cached_bytes / all_bytes;
  for (const Block& block : program.blocks) {
    if (block.kind != BlockKind::kWeights) continue;
    for (const Segment& segment : block.segments) result.bytes += segment.required_bytes;
  }
  const RealClock clock;
  const int64_t begin_ns = clock.NowNs();
  Pass(mappings, program, threads).Run();
  result.seconds = static_cast<double>(clock.NowNs() - begin_ns) * 1e-9;
  return result;
}

}  // namespace weir
