// Progress of long work on stderr: percent, rate and time left, from one second on, ten times a
// second on a terminal, every five seconds elsewhere.
#ifndef WEIR_TOOLS_PROGRESS_H_
#define WEIR_TOOLS_PROGRESS_H_

#include <cstdint>
#include <string>

#include "io/clock.h"

namespace weir {

class ProgressLine {
 public:
  explicit ProgressLine(std::string what);
  ~ProgressLine() { Finish(); }

  // `share` of the work is done, 0..1; `bytes` moved since the first call (none: no rate is shown).
  void Update(double share, uint64_t bytes);
  // Wipes the line, so that text can follow.
  void Finish();
  // Begins anew under another name.
  void Restart(std::string what);

 private:
  std::string what_;
  RealClock clock_;
  bool is_terminal_;
  bool shown_ = false;
  int64_t begin_ns_;
  int64_t last_ns_;
  uint64_t begin_bytes_ = 0;
  bool has_begin_bytes_ = false;
};

}  // namespace weir

#endif  // WEIR_TOOLS_PROGRESS_H_
