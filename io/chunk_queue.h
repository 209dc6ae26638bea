// ChunkQueue: the bookkeeping that every asynchronous Reader needs, without any I/O: ops are split
// into chunk reads handed out in order, results are judged by io/retry_policy.h, finished ops queue
// up until they are handed back. All memory is taken by the constructor. One thread at a time.
//
// A chunk read is overdue when its attempt has had no result for the timeout. Its Reader may try to
// cancel it, which moves its deadline a little, and then abandons it: the op fails, the chunk is
// stuck until its result comes after all, and as long as any is, no other read is started.
#ifndef WEIR_IO_CHUNK_QUEUE_H_
#define WEIR_IO_CHUNK_QUEUE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "io/reader.h"
#include "io/retry_policy.h"

namespace weir {

// How long a cancelled read may take to come back.
inline constexpr int64_t kCancelGraceNs = 200'000'000;

class ChunkQueue {
 public:
  // One chunk read in flight; valid from Next until Complete returns anything but kAgain. Once it
  // is abandoned, op and file may be gone.
  struct Chunk {
    const File* file() const { return op->file; }
    // The range and the memory of the next attempt.
    uint64_t offset_bytes() const { return progress.offset_bytes + progress.resume_bytes; }
    uint64_t bytes() const { return progress.bytes - progress.resume_bytes; }
    uint8_t* memory() const { return op->buffer + start_bytes + progress.resume_bytes; }

    ReadOp* op = nullptr;      // null: not in flight, or abandoned
    uint64_t start_bytes = 0;  // within the op
    ReadProgress progress;
    int64_t start_ns = 0;       // of the attempt
    bool is_overdue = false;    // start_ns is that of the grace granted to it
    bool is_answered = false;   // by the kernel, while Complete is still to come
    bool is_abandoned = false;  // stuck
  };

  explicit ChunkQueue(const ReaderOptions& options);
  ChunkQueue(const ChunkQueue&) = delete;
  ChunkQueue& operator=(const ChunkQueue&) = delete;

  // Takes an op over. Checks the caller's part of the contract (alignment, capacity, ranges).
  void Add(ReadOp* op, int64_t now_ns);
  // The next chunk read to start, in the order of Add; null when all are handed out or `depth` of
  // them are in flight.
  Chunk* Next(int64_t now_ns);
  // The result of a chunk's attempt: a count or a negative errno. kAgain: attempt the chunk again
  // with its new range. Otherwise the chunk is gone, and its op is done if this was the last. Of an
  // abandoned chunk the result means only that it is stuck no longer.
  ReadStep Complete(Chunk* chunk, int64_t result, int64_t now_ns);
  // A chunk whose time is up; null for none.
  Chunk* FindOverdue(int64_t now_ns);
  // Leaves an overdue chunk kCancelGraceNs to be cancelled. Whatever its result, it is the last.
  void GrantGrace(Chunk* chunk, int64_t now_ns);
  // Gives a chunk up, and with it all that was not started.
  void Abandon(Chunk* chunk, int64_t now_ns);
  // When the next chunk will be overdue; the largest number when none is in flight.
  int64_t NextDeadlineNs() const;
  // Moves finished ops to `done`, oldest first; returns their number.
  size_t TakeDone(absl::Span<ReadOp*> done);

  bool has_done() const { return done_count_ > 0; }
  bool has_pending() const { return pending_count_ > 0 && !free_chunks_.empty(); }
  uint32_t capacity() const { return static_cast<uint32_t>(op_states_.size()); }
  uint32_t in_flight() const { return in_flight_; }                // ops, finished ones included
  uint32_t chunks_in_flight() const { return chunks_in_flight_; }  // stuck ones included
  uint32_t stuck() const { return stuck_; }
  const ReaderStats& stats() const { return stats_; }
  void AddCpuNs(uint64_t cpu_ns) { stats_.cpu_ns += cpu_ns; }

 private:
  struct OpState {
    ReadOp* op = nullptr;
    uint64_t next_start_bytes = 0;  // of the first chunk not yet handed out
    uint64_t end_bytes = 0;         // contiguous bytes at most: the lowest short or failed end
    uint32_t outstanding = 0;       // chunks in flight
    bool is_split = false;          // every chunk was handed out, or given up
    int error = 0;                  // of the failed chunk that defines end_bytes
  };

  int64_t DeadlineNs(const Chunk& chunk) const;
  void EndChunk(Chunk* chunk, ReadStep step, int64_t now_ns);
  void DropFirstPending();
  void GiveUpPending(int64_t now_ns);
  void FinishOp(OpState* state, int64_t now_ns);

  const ReaderOptions options_;
  std::vector<OpState> op_states_;  // capacity
  std::vector<OpState*> free_ops_;  // stack
  std::vector<OpState*> pending_;   // circular; only the first can be partly handed out
  size_t pending_first_ = 0;
  size_t pending_count_ = 0;
  std::vector<Chunk> chunks_;        // depth
  std::vector<Chunk*> free_chunks_;  // stack
  std::vector<ReadOp*> done_;        // circular
  size_t done_first_ = 0;
  size_t done_count_ = 0;
  uint32_t in_flight_ = 0;
  uint32_t chunks_in_flight_ = 0;
  uint32_t stuck_ = 0;
  ReaderStats stats_;
};

}  // namespace weir

#endif  // WEIR_IO_CHUNK_QUEUE_H_
