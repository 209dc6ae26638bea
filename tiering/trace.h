// Trace: what moved and what ran, when; bounded, and written in the Trace Event Format that
// Perfetto opens (https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
#ifndef WEIR_TIERING_TRACE_H_
#define WEIR_TIERING_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tiering/program.h"

namespace weir {

class Trace {
 public:
  enum class Lane : uint8_t {
    kDisk,         // reads into host memory
    kCompute,      // steps on the CPU
    kPass,         // whole passes
    kCopy,         // copies from host memory to the accelerator
    kAccelerator,  // steps on the accelerator
  };
  struct Record {
    Lane lane;
    uint32_t id;    // block, step or pass number, by lane
    uint32_t slot;  // kDisk, kCopy: where it went (Transfer::kOwnMemory: its own memory)
    int64_t begin_ns;
    int64_t end_ns;
    bool operator==(const Record&) const = default;
  };

  // Room for `capacity` records is taken at once; what comes later is counted as dropped.
  explicit Trace(size_t capacity);

  void Add(const Record& record);
  const std::vector<Record>& records() const { return records_; }
  uint64_t dropped() const { return dropped_; }

  // Whose trace it is: shown above its rows, so that a real and a simulated one can be told apart.
  struct Process {
    std::string name = "weir run";
    int id = 1;
  };

  // One JSON text. Transfers are laid out over as many rows as overlap; copies, and the steps of
  // each device, have a row of their own. Times in microseconds from the first record.
  std::string ToPerfettoJson(const Program& program, const Process& process) const;
  std::string ToPerfettoJson(const Program& program) const {
    return ToPerfettoJson(program, Process());
  }

 private:
  std::vector<Record> records_;
  uint64_t dropped_ = 0;
};

}  // namespace weir

#endif  // WEIR_TIERING_TRACE_H_
