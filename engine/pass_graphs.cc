#include "engine/pass_graphs.h"

#include <algorithm>
#include <bit>

namespace weir {
namespace {

// Recording takes about as long as a pass: not for every few tokens.
constexpr uint32_t kLeastPositions = 64;
// Several sessions at different depths; a graph takes some of the GPU's memory.
constexpr size_t kMostGraphs = 4;

}  // namespace

uint32_t PassGraphs::RoundUp(uint32_t positions_end) {
  return std::bit_ceil(std::max(positions_end, kLeastPositions));
}

void PassGraphs::Run(const Key& key, absl::FunctionRef<void()> enqueue) {
  Entry* entry = Find(key);
  if (entry == nullptr) {
    if (entries_.size() == kMostGraphs) entries_.erase(entries_.begin());
    entries_.push_back({.key = key, .graph = nullptr});
    return enqueue();
  }
  if (entry->graph == nullptr) entry->graph = stream_->RecordGraph(enqueue);
  if (entry->graph == nullptr) return enqueue();  // the device has failed
  stream_->RunGraph(*entry->graph);
  ++graph_runs_;
}

PassGraphs::Entry* PassGraphs::Find(const Key& key) {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&key](const Entry& entry) { return entry.key == key; });
  return found == entries_.end() ? nullptr : &*found;
}

}  // namespace weir
