#include "tests/kernels/host_grid/fibers.h"

#include <sys/mman.h>

#include <algorithm>
#include <boost/context/detail/fcontext.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "io/base.h"
#include "kernels/host_grid.h"

namespace weir::host_grid {
namespace {

namespace context = boost::context::detail;

constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kLanes = 32;
constexpr uint64_t kStackBytes = 64 * kKiB;
constexpr uint64_t kGuardBytes = 4 * kKiB;
constexpr uint64_t kCanaryBytes = 64;  // after the dynamic shared memory
constexpr uint8_t kCanary = 0xC5;
constexpr uint8_t kGarbage = 0xFF;  // what shared memory holds at first: NaN, of any width

// Stacks for a block's fibers, a page that faults below each. Pages are taken as they are touched.
class Stacks {
 public:
  Stacks() {
    void* memory = mmap(nullptr, kMaxThreads * kSlotBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    WEIR_CHECK(memory != MAP_FAILED);
    base_ = static_cast<uint8_t*>(memory);
    for (uint32_t i = 0; i < kMaxThreads; ++i) {
      WEIR_CHECK(mprotect(base_ + i * kSlotBytes, kGuardBytes, PROT_NONE) == 0);
    }
  }
  ~Stacks() { munmap(base_, kMaxThreads * kSlotBytes); }
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  void* Top(uint32_t index) const { return base_ + (index + 1) * kSlotBytes; }

 private:
  static constexpr uint64_t kSlotBytes = kStackBytes + kGuardBytes;
  uint8_t* base_;
};

enum class State : uint8_t { kReady, kInCollective, kAtBarrier, kDone };

struct Copy {
  uint8_t* to;
  const uint8_t* from;
  uint32_t bytes;
  uint32_t zero_bytes;
  uint32_t group;
};

struct Fiber {
  context::fcontext_t resume;
  State state;
  std::vector<Copy> copies;  // not yet done, in order
  uint32_t group;            // of the next copy
  bool waited;               // for what was enqueued before
};

// What a warp's lanes exchange. Two buffers: a lane may enter the next collective while others
// still read what this one gave, but none enters the one after before all have entered the next.
struct Warp {
  uint32_t arrived;
  uint32_t turn;
  Collective kind;
  uint32_t bytes;
  uint8_t given[2][kLanes * kExchangeStride];
};

class Block {
 public:
  void Run(const LaunchShape& shape, uint32_t x, uint32_t y, bool downwards,
           const std::function<void()>& run_thread);

  const ThreadPosition& position() const { return position_; }
  uint8_t* shared() const { return shared_.get(); }
  void WaitForBlock() { Suspend(State::kAtBarrier); }
  const uint8_t* Exchange(Collective kind, const void* mine, uint32_t bytes);
  Fiber& running() { return fibers_[position_.thread]; }

 private:
  static void Main(context::transfer_t transfer);
  void Suspend(State state);
  void Resume(uint32_t thread);
  void RunWarp(uint32_t warp, bool downwards);
  [[noreturn]] void Fail(const char* what, uint32_t thread) const;

  Stacks stacks_;
  std::vector<Fiber> fibers_ = std::vector<Fiber>(kMaxThreads);
  std::vector<Warp> warps_ = std::vector<Warp>(kMaxThreads / kLanes);
  std::unique_ptr<uint8_t[]> shared_;
  uint64_t shared_bytes_ = 0;
  const std::function<void()>* run_thread_ = nullptr;
  bool early_ = false;
  context::fcontext_t scheduler_ = nullptr;
  ThreadPosition position_ = {};  // of the running fiber
};

Block* running_block = nullptr;

void Block::Fail(const char* what, uint32_t thread) const {
  fprintf(stderr, "host grid: %s: thread %u of %u in block (%u, %u)\n", what, thread,
          position_.threads, position_.block_x, position_.block_y);
  abort();
}

void Block::Main(context::transfer_t transfer) {
  Block* const block = running_block;
  block->scheduler_ = transfer.fctx;
  (*block->run_thread_)();
  const uint32_t thread = block->position_.thread;
  if (block->early_ && !block->running().waited) {
    block->Fail("an early thread did not wait for what came before", thread);
  }
  if (!block->running().copies.empty()) block->Fail("copies not waited for", thread);
  block->Suspend(State::kDone);
}

void Block::Suspend(State state) {
  running().state = state;
  scheduler_ = context::jump_fcontext(scheduler_, nullptr).fctx;
}

void Block::Resume(uint32_t thread) {
  position_.thread = thread;
  fibers_[thread].resume = context::jump_fcontext(fibers_[thread].resume, nullptr).fctx;
}

const uint8_t* Block::Exchange(Collective kind, const void* mine, uint32_t bytes) {
  const uint32_t first = position_.thread / kLanes * kLanes;
  const uint32_t lane = position_.thread % kLanes;
  Warp& warp = warps_[position_.thread / kLanes];
  if (warp.arrived == 0) {
    warp.kind = kind;
    warp.bytes = bytes;
  } else if (warp.kind != kind || warp.bytes != bytes) {
    Fail("lanes met in different collectives", position_.thread);
  }
  uint8_t* const given = warp.given[warp.turn % 2];
  if (bytes > 0) memcpy(given + lane * kExchangeStride, mine, bytes);
  if (++warp.arrived < kLanes) {
    Suspend(State::kInCollective);
    return given;
  }
  warp.arrived = 0;
  ++warp.turn;
  for (uint32_t i = 0; i < kLanes; ++i) {
    if (i != lane) fibers_[first + i].state = State::kReady;
  }
  return given;
}

// Until every lane has ended or waits at the barrier.
void Block::RunWarp(uint32_t warp, bool downwards) {
  const uint32_t first = warp * kLanes;
  for (bool progress = true; progress;) {
    progress = false;
    for (uint32_t i = 0; i < kLanes; ++i) {
      const uint32_t thread = first + (downwards ? kLanes - 1 - i : i);
      if (fibers_[thread].state != State::kReady) continue;
      progress = true;
      Resume(thread);
    }
  }
  for (uint32_t i = 0; i < kLanes; ++i) {
    if (fibers_[first + i].state == State::kInCollective) {
      Fail("a lane waits in a collective that others of its warp missed", first + i);
    }
  }
}

void Block::Run(const LaunchShape& shape, uint32_t x, uint32_t y, bool downwards,
                const std::function<void()>& run_thread) {
  if (shape.shared_bytes != shared_bytes_ || shared_ == nullptr) {
    shared_bytes_ = shape.shared_bytes;
    shared_ = std::make_unique<uint8_t[]>(shared_bytes_ + kCanaryBytes);
  }
  memset(shared_.get(), kGarbage, shared_bytes_);
  memset(shared_.get() + shared_bytes_, kCanary, kCanaryBytes);
  position_ = {0, shape.threads, x, y, shape.blocks_x, shape.blocks_y};
  run_thread_ = &run_thread;
  early_ = shape.early;
  running_block = this;
  const uint32_t warps = shape.threads / kLanes;
  for (uint32_t i = 0; i < shape.threads; ++i) {
    fibers_[i].resume = context::make_fcontext(stacks_.Top(i), kStackBytes, &Block::Main);
    fibers_[i].state = State::kReady;
    fibers_[i].group = 0;
    fibers_[i].waited = false;
  }
  for (uint32_t i = 0; i < warps; ++i) warps_[i].arrived = 0;
  for (uint32_t done = 0; done < shape.threads;) {
    for (uint32_t i = 0; i < warps; ++i) RunWarp(downwards ? warps - 1 - i : i, downwards);
    done = 0;
    for (uint32_t i = 0; i < shape.threads; ++i) done += fibers_[i].state == State::kDone;
    for (uint32_t i = 0; i < shape.threads; ++i) {
      if (fibers_[i].state == State::kDone) continue;
      if (done > 0) Fail("a thread waits at a barrier and others have ended", i);
      fibers_[i].state = State::kReady;
    }
  }
  running_block = nullptr;
  for (uint64_t i = 0; i < kCanaryBytes; ++i) {
    if (shared_[shared_bytes_ + i] != kCanary) Fail("written beyond dynamic shared memory", 0);
  }
}

}  // namespace

const ThreadPosition& Position() { return running_block->position(); }
void NoteWaitForPrevious() { running_block->running().waited = true; }
uint8_t* DynamicSharedMemory() { return running_block->shared(); }
void WaitForBlock() { running_block->WaitForBlock(); }
const uint8_t* Exchange(Collective collective, const void* mine, uint32_t bytes) {
  return running_block->Exchange(collective, mine, bytes);
}

void CopyLater(uint8_t* shared, const uint8_t* global, uint32_t bytes, uint32_t zero_bytes) {
  Fiber& fiber = running_block->running();
  fiber.copies.push_back({shared, global, bytes, zero_bytes, fiber.group});
}
void CommitCopyGroup() { ++running_block->running().group; }
void WaitForCopyGroups(uint32_t groups_left) {
  Fiber& fiber = running_block->running();
  auto copy = fiber.copies.begin();
  for (; copy != fiber.copies.end() && copy->group + groups_left < fiber.group; ++copy) {
    memcpy(copy->to, copy->from, copy->bytes);
    memset(copy->to + copy->bytes, 0, copy->zero_bytes);
  }
  fiber.copies.erase(fiber.copies.begin(), copy);
}

void RunGrid(const LaunchShape& shape, const std::function<void()>& run_thread) {
  WEIR_CHECK(shape.threads > 0 && shape.threads % kLanes == 0 && shape.threads <= kMaxThreads);
  WEIR_CHECK(shape.blocks_x > 0 && shape.blocks_y > 0 && shape.blocks_y <= 65535);
  static Block block;
  static uint32_t launches = 0;
  WEIR_CHECK(running_block == nullptr);
  ++launches;
  for (uint32_t y = 0; y < shape.blocks_y; ++y) {
    for (uint32_t x = 0; x < shape.blocks_x; ++x) {
      block.Run(shape, x, y, (launches + x + y) % 2 == 0, run_thread);
    }
  }
}

}  // namespace weir::host_grid
