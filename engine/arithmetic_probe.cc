// ProbeArithmetic of engine/hardware_probe.h.
#include <memory>
#include <vector>

#include "engine/hardware_probe.h"
#include "io/clock.h"
#include "kernels/cpu_device.h"

namespace weir {
namespace {

// Between two looks at the clock.
constexpr uint32_t kRounds = 1000;

// One worker's part; workers do not share what they write.
struct alignas(64) Part {
  uint64_t operations = 0;
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
};

void RunPart(Arithmetic arithmetic, int64_t limit_ns, Part* part) {
  const RealClock clock;
  part->begin_ns = clock.NowNs();
  do {
    part->operations += RunArithmetic(arithmetic, kRounds);
    part->end_ns = clock.NowNs();
  } while (part->end_ns - part->begin_ns < limit_ns);
}

}  // namespace

absl::StatusOr<double> ProbeArithmetic(Arithmetic arithmetic, uint32_t threads,
                                       const std::string& isa, int64_t limit_ns) {
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device,
                        MakeCpuDevice({.threads = threads, .isa = isa}));
  const std::unique_ptr<Stream> stream = device->NewStream();
  std::vector<Part> parts(threads);
  Part* const first = parts.data();
  static_cast<CpuStream&>(*stream).Launch(
      [=](uint32_t worker, uint32_t /*workers*/, CpuStream& self) {
        self.Barrier();  // all are awake
        RunPart(arithmetic, limit_ns, first + worker);
      });
  stream->Wait(stream->Record());
  double operations_per_s = 0;
  for (const Part& part : parts) {
    const auto ns = static_cast<double>(part.end_ns - part.begin_ns);
    operations_per_s += 1e9 * static_cast<double>(part.operations) / ns;
  }
  return operations_per_s;
}

}  // namespace weir
