// WallJournal: what a long measurement has found so far, in a file, so that one that was
// interrupted goes on where it ended. A line of JSON for each thing:
//   {"weir_wall": 1, "identity": {...}}     whose measurement it is: model, options, version
//   {"key": "arm 0, round 2", "value": ...}
// A last line that was cut off is as if it had not been written.
#ifndef WEIR_TOOLS_WALL_JOURNAL_H_
#define WEIR_TOOLS_WALL_JOURNAL_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace weir {

class WallJournal {
 public:
  // Begins anew; with `resume` takes what the file has, if it is of the same identity (otherwise
  // FailedPrecondition, as for a file that is none of ours; NotFound where there is none). An empty
  // path: nothing is kept, and there is nothing to resume (FailedPrecondition).
  static absl::StatusOr<WallJournal> Open(const std::string& path, const nlohmann::json& identity,
                                          bool resume);

  const std::string& path() const { return path_; }
  // Null where it is not known.
  const nlohmann::json* Find(const std::string& key) const;
  // The line is in the file when it returns.
  absl::Status Add(const std::string& key, nlohmann::json value);
  // The file: the measurement is over.
  void Remove() const;

 private:
  absl::Status Load(const nlohmann::json& identity);
  absl::Status Append(const nlohmann::json& line, bool begins) const;

  std::string path_;
  std::map<std::string, nlohmann::json> values_;
};

}  // namespace weir

#endif  // WEIR_TOOLS_WALL_JOURNAL_H_
