#include "tools/generate.h"

#include "io/allocation_counter.h"
#include "io/base.h"
#include "io/clock.h"
#include "kernels/memory_limits.h"
#include "tools/interrupt.h"

namespace weir {
namespace {

double Rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

double SecondsBetween(int64_t begin_ns, int64_t end_ns) {
  return static_cast<double>(end_ns - begin_ns) * 1e-9;
}

// What the decode_ fields of a Generation are differences of.
struct Counters {
  uint64_t reader_bytes = 0;  // of finished reads
  uint64_t kernel_bytes = 0;  // of reads that were handed to the disk
  uint64_t copy_bytes = 0;    // of finished copies to an accelerator
  uint64_t reading_cpu_ns = 0;
  std::optional<uint64_t> allocations;
};

Counters CountersNow(const Engine& engine) {
  const EngineStats stats = engine.stats();
  Counters counters;
  counters.reader_bytes = stats.reader.bytes_read;
  counters.kernel_bytes = ReadProcessCounters().disk_read_bytes.value_or(0);
  counters.copy_bytes = stats.scheduler.copy_bytes;
  counters.reading_cpu_ns = stats.reading_cpu_ns;
  return counters;
}

void SetDifferences(const Counters& before, const Counters& after, Generation* result) {
  result->decode_read_bytes = after.reader_bytes - before.reader_bytes;
  result->decode_kernel_bytes = after.kernel_bytes - before.kernel_bytes;
  result->decode_copy_bytes = after.copy_bytes - before.copy_bytes;
  result->decode_reading_cpu_s =
      static_cast<double>(after.reading_cpu_ns - before.reading_cpu_ns) * 1e-9;
  if (before.allocations && after.allocations) {
    result->decode_allocations = *after.allocations - *before.allocations;
  }
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

double Generation::decode_copy_bytes_per_s() const {
  return Rate(static_cast<double>(decode_copy_bytes), decode_s);
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
  Counters before = CountersNow(engine);
  before.allocations = AllocationCount();  // last: reading the other counters allocates
  while (status.ok() && options.max_tokens != 0) {
    const TokenId token = engine.top_logits() > 0
                              ? sampler.SampleTop(engine.top_values(0), engine.top_ids(0))
                              : sampler.Sample(engine.logits(0), history);
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
  const std::optional<uint64_t> allocations = AllocationCount();
  Counters after = CountersNow(engine);
  after.allocations = allocations;
  SetDifferences(before, after, &result);
  if (absl::IsCancelled(status)) {
    result.stop = Generation::Stop::kInterrupted;
    return result;
  }
  WEIR_RETURN_IF_ERROR(status);
  return result;
}

}  // namespace weir
