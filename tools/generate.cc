#include "tools/generate.h"

#include "io/base.h"
#include "io/clock.h"
#include "kernels/memory_limits.h"
#include "tools/allocation_counter.h"
#include "tools/interrupt.h"

namespace weir {
namespace {

double Rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

double SecondsBetween(int64_t begin_ns, int64_t end_ns) {
  return static_cast<double>(end_ns - begin_ns) * 1e-9;
}

struct BytesRead {
  uint64_t by_reader = 0;  // finished reads
  uint64_t by_kernel = 0;  // reads that were handed to the disk
};

BytesRead BytesReadSoFar(const Engine& engine) {
  return {engine.stats().reader.bytes_read, ReadProcessCounters().disk_read_bytes.value_or(0)};
}

// One step of the loop after a token was made: whether and how the generation ends here.
bool IsFinished(const Engine& engine, const Session& session, const GenerateOptions& options,
                Generation* result) {
  if (options.max_tokens >= 0 &&
      result->tokens.size() >= static_cast<uint64_t>(options.max_tokens)) {
    result->stop = Generation::Stop::kLength;
    return true;
  }
  if (session.position() >= engine.plan().shape.context_tokens) {
    result->stop = Generation::Stop::kContextFull;
    return true;
  }
  return false;
}

}  // namespace

double Generation::prompt_tokens_per_s() const { return Rate(prompt_tokens, prompt_s); }

double Generation::decode_tokens_per_s() const {
  return Rate(static_cast<double>(decode_passes), decode_s);
}

double Generation::decode_read_bytes_per_s() const {
  return Rate(static_cast<double>(decode_read_bytes), decode_s);
}

absl::StatusOr<Generation> Generate(Engine& engine, Session& session, Sampler& sampler,
                                    const Tokenizer& tokenizer, absl::Span<const TokenId> prompt,
                                    const GenerateOptions& options,
                                    const std::function<absl::Status(TokenId)>& on_token) {
  RealClock clock;
  Generation result;
  result.prompt_tokens = static_cast<uint32_t>(prompt.size());
  const int64_t begin_ns = clock.NowNs();
  std::vector<TokenId> history(session.tokens());
  history.insert(history.end(), prompt.begin(), prompt.end());
  // Nothing is allocated from here on but by the tokens' receiver.
  const uint32_t context_tokens = engine.plan().shape.context_tokens;
  history.reserve(context_tokens + 1);
  result.tokens.reserve(context_tokens + 1);
  absl::Status status =
      engine.Forward(session, prompt, 1, options.max_tokens != 0 && options.max_tokens != 1);
  result.first_token_ns = clock.NowNs();
  result.prompt_s = SecondsBetween(begin_ns, result.first_token_ns);
  const BytesRead before = BytesReadSoFar(engine);
  const std::optional<uint64_t> allocations_before = AllocationCount();
  while (status.ok() && options.max_tokens != 0) {
    const TokenId token = sampler.Sample(engine.logits(0), history);
    if (tokenizer.IsEndOfGeneration(token) && !options.ignore_end) {
      result.stop = Generation::Stop::kEndToken;
      break;
    }
    result.tokens.push_back(token);
    history.push_back(token);
    status = on_token(token);
    if (!status.ok() || IsFinished(engine, session, options, &result)) break;
    if (Interrupted()) {
      result.stop = Generation::Stop::kInterrupted;
      break;
    }
    const bool last = options.max_tokens >= 0 &&
                      result.tokens.size() + 1 >= static_cast<uint64_t>(options.max_tokens);
    status = engine.Forward(session, {token}, 1, !last);
    if (!status.ok()) break;
    ++result.decode_passes;
    result.decode_s = SecondsBetween(result.first_token_ns, clock.NowNs());
  }
  if (allocations_before) result.decode_allocations = *AllocationCount() - *allocations_before;
  const BytesRead after = BytesReadSoFar(engine);
  result.decode_read_bytes = after.by_reader - before.by_reader;
  result.decode_kernel_bytes = after.by_kernel - before.by_kernel;
  if (absl::IsCancelled(status)) {
    result.stop = Generation::Stop::kInterrupted;
    return result;
  }
  WEIR_RETURN_IF_ERROR(status);
  return result;
}

}  // namespace weir
