#include "engine/training_traffic.h"

#include <time.h>

#include <algorithm>
#include <vector>

#include "absl/functional/function_ref.h"
#include "io/base.h"
#include "io/clock.h"

namespace weir {
namespace {

constexpr int64_t kLookNs = 50'000'000;
constexpr size_t kMostOps = 16;  // of each kind in flight: enough for any disk at these sizes

double ProcessCpuSeconds() {
  timespec time = {};
  WEIR_CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

class Traffic {
 public:
  Traffic(const TrainingBench& bench, absl::Span<uint8_t> memory, const TrafficOptions& options)
      : bench_(bench), options_(options) {
    WEIR_CHECK(options.op_bytes > 0 && options.region_bytes % options.op_bytes == 0);
    WEIR_CHECK(memory.size() >= 4 * options.op_bytes && options.region_bytes > 0);
    const uint64_t half = memory.size() / options.op_bytes / 2;
    const size_t count = std::min<size_t>(half, kMostOps);
    reads_.resize(options.reads != nullptr ? count : 0);
    writes_.resize(options.writes ? count : 0);
    for (size_t i = 0; i < reads_.size(); ++i) {
      reads_[i].file = options.reads;
      reads_[i].buffer = memory.data() + i * options.op_bytes;
      idle_reads_.push_back(&reads_[i]);
    }
    for (size_t i = 0; i < writes_.size(); ++i) {
      writes_[i].data = memory.data() + (half + i) * options.op_bytes;
      writes_[i].bytes = options.op_bytes;
      idle_writes_.push_back(&writes_[i]);
    }
    read_done_.resize(std::max<size_t>(1, reads_.size()));
    write_done_.resize(std::max<size_t>(1, writes_.size()));
  }

  absl::StatusOr<TrafficResult> Run(const std::function<bool()>& go_on) {
    begin_ns_ = clock_.NowNs();
    const double begin_cpu_s = ProcessCpuSeconds();
    absl::Status status = RunToEnd(go_on);
    while (bench_.writer->in_flight() > 0) {
      bench_.writer->Wait(absl::MakeSpan(write_done_), kLookNs);
    }
    while (bench_.reader->in_flight() > 0) {
      bench_.reader->Wait(absl::MakeSpan(read_done_), kLookNs);
    }
    WEIR_RETURN_IF_ERROR(status);
    if (options_.writes) WEIR_RETURN_IF_ERROR(bench_.writer->Sync());
    result_.seconds = static_cast<double>(clock_.NowNs() - begin_ns_) * 1e-9;
    result_.cpu_s = ProcessCpuSeconds() - begin_cpu_s;
    return result_;
  }

 private:
  absl::Status RunToEnd(const std::function<bool()>& go_on) {
    while (true) {
      Start();
      if (bench_.reader->in_flight() + bench_.writer->in_flight() == 0) return absl::OkStatus();
      // The writer wakes the reader.
      const size_t reads = bench_.reader->Wait(absl::MakeSpan(read_done_), kLookNs);
      for (size_t i = 0; i < reads; ++i) {
        WEIR_RETURN_IF_ERROR(read_done_[i]->status);
        result_.read_bytes += read_done_[i]->got_bytes;
        idle_reads_.push_back(read_done_[i]);
      }
      const size_t writes = bench_.writer->Wait(absl::MakeSpan(write_done_), 0);
      for (size_t i = 0; i < writes; ++i) {
        WEIR_RETURN_IF_ERROR(write_done_[i]->status);
        result_.written_bytes += write_done_[i]->bytes;
        idle_writes_.push_back(write_done_[i]);
      }
      if (!go_on()) return absl::CancelledError("measuring the disk was interrupted");
    }
  }

  bool MayGoOn() const {
    const uint64_t asked_bytes = (asked_reads_ + asked_writes_) * options_.op_bytes;
    if (asked_bytes == 0) return true;
    if (options_.limit_bytes > 0 && asked_bytes >= options_.limit_bytes) return false;
    return options_.limit_ns <= 0 || clock_.NowNs() - begin_ns_ < options_.limit_ns;
  }

  void Start() {
    const bool both = !reads_.empty() && !writes_.empty();
    while (MayGoOn()) {
      // The slower kind is not left behind.
      const bool may_read = !idle_reads_.empty() && (!both || asked_reads_ <= asked_writes_);
      const bool may_write = !idle_writes_.empty() && (!both || asked_writes_ <= asked_reads_);
      if (may_read) {
        StartRead();
      } else if (may_write) {
        StartWrite();
      } else {
        return;
      }
    }
  }

  // Half of the region away from the writes that are begun at the same time.
  void StartRead() {
    ReadOp* const op = idle_reads_.back();
    idle_reads_.pop_back();
    const uint64_t ops = options_.region_bytes / options_.op_bytes;
    const uint64_t at = (asked_reads_ + (options_.writes ? ops / 2 : 0)) % ops;
    op->offset_bytes = options_.read_offset_bytes + at * options_.op_bytes;
    op->bytes = options_.op_bytes;
    op->required_bytes =
        std::min(options_.op_bytes, options_.reads->size_bytes() - op->offset_bytes);
    ++asked_reads_;
    bench_.reader->Submit(op);
  }

  void StartWrite() {
    WriteOp* const op = idle_writes_.back();
    idle_writes_.pop_back();
    op->offset_bytes = asked_writes_ * options_.op_bytes % options_.region_bytes;
    ++asked_writes_;
    bench_.writer->Submit(op);
  }

  const RealClock clock_;
  const TrainingBench& bench_;
  const TrafficOptions& options_;
  std::vector<ReadOp> reads_;
  std::vector<WriteOp> writes_;
  std::vector<ReadOp*> idle_reads_;
  std::vector<WriteOp*> idle_writes_;
  std::vector<ReadOp*> read_done_;
  std::vector<WriteOp*> write_done_;
  uint64_t asked_reads_ = 0;
  uint64_t asked_writes_ = 0;
  int64_t begin_ns_ = 0;
  TrafficResult result_;
};

// One batch after the other of as many units as there are slots.
class ArithmeticRun {
 public:
  ArithmeticRun(const TrainingBench& bench, absl::Span<const TrainingUnit> units)
      : bench_(bench),
        units_(units),
        count_(std::min(bench.slots.size(), units.size())),
        batches_(units.size() / count_),
        chosen_(count_),
        places_(count_),
        reads_(count_),
        done_(count_) {}

  // Of one product of each of that many parameters.
  struct Sum {
    double parameters = 0;
    double seconds = 0;
    double rate() const { return parameters / std::max(seconds, 1e-9); }
  };

  absl::StatusOr<Sum> Products(int64_t limit_ns) {
    WEIR_RETURN_IF_ERROR(Read(0));
    TimeProducts();  // wakes the workers and warms what can be warm
    Sum sum;
    for (size_t batch = 0; batch < batches_; ++batch) {
      WEIR_RETURN_IF_ERROR(Read(batch));
      sum.seconds += TimeProducts();
      sum.parameters += Parameters();
      if (sum.seconds * 1e9 > static_cast<double>(limit_ns)) break;
    }
    return sum;
  }

  Sum Updates(int64_t limit_ns) {
    Sum sum;
    do {
      sum.seconds += Time([&] {
        for (size_t i = 0; i < count_; ++i) EnqueueUpdate(bench_, *chosen_[i], places_[i]);
      });
      sum.parameters += Parameters();
    } while (sum.seconds * 1e9 < static_cast<double>(limit_ns));
    return sum;
  }

 private:
  // Batches are spread over the units, and so are the units of one.
  absl::Status Read(size_t batch) {
    for (size_t i = 0; i < count_; ++i) {
      chosen_[i] = &units_[i * batches_ + batch];
      places_[i] = PlacesOf(*chosen_[i], bench_.slots[i]);
      reads_[i] = ReadOfWeights(bench_, *chosen_[i], places_[i].weights);
      bench_.reader->Submit(&reads_[i]);
    }
    while (bench_.reader->in_flight() > 0) bench_.reader->Wait(absl::MakeSpan(done_), kLookNs);
    for (const ReadOp& read : reads_) WEIR_RETURN_IF_ERROR(read.status);
    return absl::OkStatus();
  }

  double Parameters() const {
    double sum = 0;
    for (const TrainingUnit* unit : chosen_) sum += static_cast<double>(unit->parameters);
    return sum;
  }

  double TimeProducts() const {
    return Time([&] {
      for (size_t i = 0; i < count_; ++i) EnqueueProduct(bench_, *chosen_[i], places_[i].weights);
    });
  }

  double Time(absl::FunctionRef<void()> enqueue) const {
    const int64_t begin_ns = clock_.NowNs();
    enqueue();
    bench_.stream->Wait(bench_.stream->Record());
    return static_cast<double>(clock_.NowNs() - begin_ns) * 1e-9;
  }

  const RealClock clock_;
  const TrainingBench& bench_;
  const absl::Span<const TrainingUnit> units_;
  const size_t count_;
  const size_t batches_;
  std::vector<const TrainingUnit*> chosen_;
  std::vector<SlotPlaces> places_;
  std::vector<ReadOp> reads_;
  std::vector<ReadOp*> done_;
};

}  // namespace

absl::StatusOr<TrafficResult> MeasureTraffic(const TrainingBench& bench, absl::Span<uint8_t> memory,
                                             const TrafficOptions& options,
                                             const std::function<bool()>& go_on) {
  return Traffic(bench, memory, options).Run(go_on);
}

absl::StatusOr<ArithmeticRates> MeasureArithmetic(const TrainingBench& bench,
                                                  absl::Span<const TrainingUnit> units,
                                                  int64_t limit_ns) {
  WEIR_CHECK(!units.empty() && !bench.slots.empty());
  ArithmeticRun run(bench, units);
  WEIR_ASSIGN_OR_RETURN(const ArithmeticRun::Sum products, run.Products(limit_ns));
  const ArithmeticRun::Sum updates = run.Updates(limit_ns / 4);
  WEIR_RETURN_IF_ERROR(bench.stream->status());
  return ArithmeticRates{.operations_per_s = 2.0 * bench.tokens * products.rate(),
                         .update_parameters_per_s = updates.rate()};
}

}  // namespace weir
