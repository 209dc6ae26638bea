#include "engine/mapped_probe.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/clock.h"

namespace weir {
namespace {

constexpr uint32_t kMaxThreads = 1024;

// A whole file, mapped for reading. What is mapped of a file that is cut meanwhile cannot be read.
class Mapping {
 public:
  static absl::StatusOr<std::unique_ptr<Mapping>> Open(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return Failed("open", path);
    const off_t size = ::lseek(descriptor, 0, SEEK_END);
    // Of pages that are still to be written nothing is dropped.
    ::fdatasync(descriptor);
    ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    void* const memory =
        size > 0 ? ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0) : MAP_FAILED;
    const absl::Status failed = memory == MAP_FAILED ? Failed("map", path) : absl::OkStatus();
    ::close(descriptor);
    WEIR_RETURN_IF_ERROR(failed);
    return std::unique_ptr<Mapping>(
        new Mapping(static_cast<uint8_t*>(memory), static_cast<uint64_t>(size)));
  }
  ~Mapping() { ::munmap(memory_, bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const uint8_t* data() const { return memory_; }
  uint64_t bytes() const { return bytes_; }

  uint64_t CountCachedPages() const {
    std::vector<unsigned char> is_cached(CeilDiv(bytes_, PageBytes()));
    if (::mincore(memory_, bytes_, is_cached.data()) != 0) return 0;
    return std::count_if(is_cached.begin(), is_cached.end(),
                         [](unsigned char page) { return (page & 1) != 0; });
  }
  static uint64_t PageBytes() { return static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)); }

 private:
  Mapping(uint8_t* memory, uint64_t bytes) : memory_(memory), bytes_(bytes) {}
  static absl::Status Failed(const char* what, const std::string& path) {
    return absl::UnavailableError(
        absl::StrCat("cannot ", what, " ", path, ": ", std::strerror(errno)));
  }

  uint8_t* memory_;
  uint64_t bytes_;
};

// A byte of every page; the sum keeps the compiler from leaving them out.
uint64_t TouchPages(const uint8_t* begin, const uint8_t* end) {
  uint64_t sum = 0;
  const uint64_t page_bytes = Mapping::PageBytes();
  for (const uint8_t* at = begin; at < end; at += page_bytes) {
    sum += *static_cast<const volatile uint8_t*>(at);
  }
  return sum;
}

class Pass {
 public:
  Pass(const std::vector<std::unique_ptr<Mapping>>& mappings, const Program& program,
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
        const Mapping& mapping = *mappings_[segment.file];
        const uint64_t end =
            std::min(segment.offset_bytes + segment.required_bytes, mapping.bytes());
        const uint64_t begin = std::min(segment.offset_bytes, end);
        const uint64_t part_bytes = AlignUp(CeilDiv(end - begin, threads_), Mapping::PageBytes());
        const uint64_t own = std::min(end, begin + thread * part_bytes);
        TouchPages(mapping.data() + own, mapping.data() + std::min(end, own + part_bytes));
      }
      done_.arrive_and_wait();
    }
  }

  const std::vector<std::unique_ptr<Mapping>>& mappings_;
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
  std::vector<std::unique_ptr<Mapping>> mappings;
  uint64_t pages = 0, cached_pages = 0;
  for (const auto& file : model.files) {
    WEIR_RETURN_IF_ERROR(file->CheckUnchanged());
    WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Mapping> mapping, Mapping::Open(file->path()));
    pages += CeilDiv(mapping->bytes(), Mapping::PageBytes());
    cached_pages += mapping->CountCachedPages();
    mappings.push_back(std::move(mapping));
  }
  result.cached_share = static_cast<double>(cached_pages) / static_cast<double>(pages);
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
