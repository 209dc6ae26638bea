// Nothing is allocated between the first and the last token: operator new is counted in this
// binary.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "engine/engine.h"
#include "engine/sampler.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_helper.h"

// The sanitizers bring an operator new of their own.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WEIR_COUNTS_ALLOCATIONS 0
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WEIR_COUNTS_ALLOCATIONS 0
#endif
#ifndef WEIR_COUNTS_ALLOCATIONS
#define WEIR_COUNTS_ALLOCATIONS 1
#endif

namespace {
std::atomic<bool> counting = false;
std::atomic<uint64_t> allocations = 0;

#if WEIR_COUNTS_ALLOCATIONS
void* Take(std::size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1);
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) std::abort();
  return memory;
}
void* TakeAligned(std::size_t bytes, std::align_val_t alignment) {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1);
  const auto unit = static_cast<std::size_t>(alignment);
  void* memory = std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit);
  if (memory == nullptr) std::abort();
  return memory;
}
#endif
}  // namespace

#if WEIR_COUNTS_ALLOCATIONS
void* operator new(std::size_t bytes) { return Take(bytes); }
void* operator new[](std::size_t bytes) { return Take(bytes); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return TakeAligned(bytes, alignment);
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return TakeAligned(bytes, alignment);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
#endif

namespace weir {
namespace {

struct AllocationCase {
  double resident_share;
  const char* reader;
  bool faults;
};

class EngineAllocations : public testing::TestWithParam<AllocationCase> {};

TEST_P(EngineAllocations, NoneFromTheFirstTokenToTheLast) {
  if (!WEIR_COUNTS_ALLOCATIONS) GTEST_SKIP() << "not with the sanitizer's operator new";
  const std::unique_ptr<Model> model = LoadTiny();
  ASSERT_NE(model, nullptr);
  EngineSetup setup;
  setup.resident_share = GetParam().resident_share;
  setup.activations = ActivationFormat::kQ8;
  setup.engine.reader = GetParam().reader;
  setup.engine.threads = 2;
  setup.engine.trace_records = 100000;
  if (GetParam().faults) setup.engine.faults = FaultOptions{.short_share = 0.1, .again_share = 0.1};
  const auto engine = OpenEngineWith(*model, setup);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const std::unique_ptr<Session> session = (*engine)->NewSession();
  Sampler sampler({.temperature = 0.7f, .repeat_penalty = 1.1f}, model->config.vocabulary);
  const std::vector<TokenId> prompt(40, 7);
  std::vector<TokenId> history = prompt;
  history.reserve(200);

  allocations = 0;
  counting = true;
  absl::Status status = (*engine)->Forward(*session, prompt, 1, true);
  for (int i = 0; i < 100 && status.ok(); ++i) {
    const TokenId next = sampler.Sample((*engine)->logits(0), history);
    history.push_back(next);
    status = (*engine)->Forward(*session, absl::MakeConstSpan(&next, 1), 1, true);
  }
  counting = false;
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(session->position(), 140u);
  EXPECT_EQ(allocations.load(), 0u);
}

INSTANTIATE_TEST_SUITE_P(
    All, EngineAllocations,
    testing::Values(AllocationCase{0.0, "auto", false}, AllocationCase{0.0, "threads", false},
                    AllocationCase{0.5, "auto", false}, AllocationCase{0.5, "threads", false},
                    AllocationCase{1.0, "auto", false}, AllocationCase{0.5, "auto", true}));

}  // namespace
}  // namespace weir
