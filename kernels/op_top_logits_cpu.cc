#include <algorithm>
#include <new>

#include "io/base.h"
#include "kernels/ops_cpu.h"

namespace weir {
namespace {

constexpr uint32_t kBlock = 64;
constexpr uint32_t kLanes = 16;
constexpr uint32_t kLeastShared = 8192;  // logits; fewer are one worker's

struct Logit {
  float value;
  int32_t id;
};

bool Better(const Logit& a, const Logit& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// Lane by lane, which compilers turn into vectors.
float LargestOfBlock(const float* logits) {
  float largest[kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane) largest[lane] = OrderedLogit(logits[lane]);
  for (uint32_t i = kLanes; i < kBlock; i += kLanes) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const float value = OrderedLogit(logits[i + lane]);
      largest[lane] = value > largest[lane] ? value : largest[lane];
    }
  }
  return *std::max_element(largest, largest + kLanes);
}

// The best k so far as a heap, the worst of them at its top.
class TopList {
 public:
  explicit TopList(uint32_t k) : k_(k) {}

  bool is_full() const { return count_ == k_; }
  float worst() const { return best_[0].value; }
  const Logit* begin() const { return best_; }
  const Logit* end() const { return best_ + count_; }
  void Offer(const Logit& logit) {
    if (is_full()) {
      if (!Better(logit, best_[0])) return;
      std::pop_heap(best_, best_ + count_--, Better);
    }
    best_[count_++] = logit;
    std::push_heap(best_, best_ + count_, Better);
  }
  void Sort() { std::sort_heap(best_, best_ + count_, Better); }

 private:
  const uint32_t k_;
  uint32_t count_ = 0;
  Logit best_[kMaxTopLogits];
};
static_assert(sizeof(TopList) <= CpuStream::kScratchBytes);

// Nearly every logit of a large vocabulary is turned away with its block.
void OfferRange(const float* logits, uint64_t begin, uint64_t end, TopList* top) {
  uint64_t i = begin;
  while (i < end) {
    const uint64_t block_end = std::min(end, i + kBlock);
    // Ids ascend: an equal one is no better.
    const bool in_vain =
        top->is_full() && block_end - i == kBlock && LargestOfBlock(logits + i) <= top->worst();
    if (!in_vain) {
      for (uint64_t id = i; id < block_end; ++id) {
        top->Offer({OrderedLogit(logits[id]), static_cast<int32_t>(id)});
      }
    }
    i = block_end;
  }
}

void Store(const TopLogitsArgs& args, uint64_t row, TopList* top) {
  top->Sort();
  uint64_t at = row * args.k;
  for (const Logit& logit : *top) {
    args.values[at] = logit.value;
    args.ids[at++] = logit.id;
  }
}

// All workers share one row: each makes a list of its part, worker 0 one of them all.
void TopOfSharedRow(const TopLogitsArgs& args, uint64_t row, uint32_t worker, uint32_t workers,
                    CpuStream& cpu) {
  auto* const own = new (cpu.scratch(worker)) TopList(args.k);
  const WorkShare share = ShareWork(args.vocabulary, 1, kLeastShared, worker, workers);
  OfferRange(args.logits + row * args.stride, share.begin, share.end, own);
  cpu.Barrier();
  if (worker == 0) {
    for (uint32_t other = 1; other < workers; ++other) {
      for (const Logit& logit : *reinterpret_cast<const TopList*>(cpu.scratch(other))) {
        own->Offer(logit);
      }
    }
    Store(args, row, own);
  }
  if (row + 1 < args.rows) cpu.Barrier();  // before lists are made anew
}

}  // namespace

void TopLogitsCpu(CpuStream& stream, const TopLogitsArgs& args) {
  WEIR_CHECK(args.k >= 1 && args.k <= kMaxTopLogits && args.k <= args.vocabulary);
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream& cpu) {
    for (uint64_t row = 0; row < args.rows; ++row) {
      TopOfSharedRow(args, row, worker, workers, cpu);
    }
  });
}

}  // namespace weir
