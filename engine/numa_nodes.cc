#include "engine/numa_nodes.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <set>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/rate_for.h"
#include "io/base.h"
#include "io/system_files.h"
#include "kernels/host_memory.h"
#include "kernels/memory_passes.h"

namespace weir {
namespace {

constexpr char kNodes[] = "/sys/devices/system/node";
constexpr uint64_t kPageBytes = 4 * kKiB;
constexpr uint64_t kAheadBytes = 32 * kKiB;  // as in engine/hierarchy_probe.cc
constexpr uint64_t kCallLoads = 4096;
constexpr uint32_t kMostNumber = 65535;
constexpr unsigned kNodeOfAddress = 3;  // MPOL_F_NODE | MPOL_F_ADDR (man 2 get_mempolicy)
constexpr int kSamples = 64;

std::optional<std::vector<uint32_t>> NumbersIn(const std::string& path) {
  const std::optional<std::string> text = ReadSystemFile(path);
  return text ? ParseNumberList(*text) : std::nullopt;
}

// What the kernel lets this process take memory from; nothing: it does not tell.
std::optional<std::vector<uint32_t>> AllowedNodes(const std::string& root) {
  const std::string status = ReadSystemFile(root + "/proc/self/status").value_or("");
  for (absl::string_view line : absl::StrSplit(status, '\n')) {
    constexpr absl::string_view kName = "Mems_allowed_list:";
    if (absl::StartsWith(line, kName)) {
      return ParseNumberList(std::string(line.substr(kName.size())));
    }
  }
  return std::nullopt;
}

// From `near` to each node that is on line, in the order of their numbers; 0: not told.
uint32_t Distance(uint32_t near, uint32_t far, const std::string& root) {
  const auto online = NumbersIn(absl::StrCat(root, kNodes, "/online"));
  const std::string text =
      ReadSystemFile(absl::StrCat(root, kNodes, "/node", near, "/distance")).value_or("");
  const std::vector<absl::string_view> words =
      absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  if (!online) return 0;
  const auto at = std::find(online->begin(), online->end(), far) - online->begin();
  uint32_t distance = 0;
  if (static_cast<size_t>(at) >= words.size() || !absl::SimpleAtoi(words[at], &distance)) return 0;
  return distance;
}

// Of some pages all over the memory; nothing: the kernel does not tell.
bool AllOnNode(const uint8_t* memory, uint64_t bytes, uint32_t node) {
  const uint64_t step = AlignUp(bytes / kSamples + 1, kPageBytes);
  for (uint64_t at = 0; at < bytes; at += step) {
    int where = -1;
    if (syscall(SYS_get_mempolicy, &where, nullptr, 0UL, memory + at, kNodeOfAddress) != 0) {
      return false;
    }
    if (where != static_cast<int>(node)) return false;
  }
  return true;
}

// Runs on a thread of its own, which is bound to the near node.
absl::StatusOr<NodeMemoryFigures> Measure(const NodePair& pair, const NodeMemoryProbe& options,
                                          const std::function<bool()>& go_on) {
  BindThisThread(absl::MakeConstSpan(pair.threads).first(1));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> memory,
                        MapHostMemory(options.bytes, 2 * kMiB));
  PlaceMemory(memory->data(), options.bytes, {pair.far});
  TouchZeroPages(memory->data(), options.bytes);
  if (!AllOnNode(memory->data(), options.bytes, pair.far)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the kernel gave no ", FormatBytes(options.bytes), " of node ", pair.far));
  }
  const absl::Span<uint8_t> lines(memory->data(), options.bytes);
  LinkLines(lines, 1);
  std::vector<double> ns, rates;
  const void* line = FollowLines(lines.data(), kCallLoads);
  for (int round = 0; round < options.rounds; ++round) {
    const double loads_per_s = RateFor(options.cell_ns, [&] {
      line = FollowLines(line, kCallLoads);
      return kCallLoads;
    });
    WEIR_CHECK(line != nullptr);
    ns.push_back(1e9 / loads_per_s);
    rates.push_back(RateFor(
        options.cell_ns, [&] { return RunMemoryPass(MemoryPass::kRead, lines, 1, kAheadBytes); }));
    if (go_on && !go_on()) return absl::CancelledError("interrupted");
  }
  std::sort(ns.begin(), ns.end());
  return NodeMemoryFigures{.latency_ns = ns[ns.size() / 2], .read = SpreadOfRates(rates)};
}

}  // namespace

std::optional<std::vector<uint32_t>> ParseNumberList(std::string_view text) {
  std::set<uint32_t> numbers;
  const absl::string_view bare = absl::StripAsciiWhitespace(AbslView(text));
  if (bare.empty()) return std::vector<uint32_t>();
  for (absl::string_view part : absl::StrSplit(bare, ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, absl::MaxSplits('-', 1));
    uint32_t first = 0;
    if (!absl::SimpleAtoi(ends.front(), &first)) return std::nullopt;
    uint32_t last = first;
    if (ends.size() == 2 && !absl::SimpleAtoi(ends.back(), &last)) return std::nullopt;
    if (last < first || last > kMostNumber) return std::nullopt;
    for (uint32_t number = first; number <= last; ++number) numbers.insert(number);
  }
  return std::vector<uint32_t>(numbers.begin(), numbers.end());
}

std::vector<uint32_t> NodesWithMemory(const std::string& root) {
  const auto nodes = NumbersIn(absl::StrCat(root, kNodes, "/has_memory"));
  return nodes && !nodes->empty() ? *nodes : std::vector<uint32_t>{0};
}

NodeChoice ChooseNodes(absl::Span<const HardwareThread> usable, const std::string& root) {
  const std::vector<uint32_t> nodes = NodesWithMemory(root);
  if (nodes.size() < 2) return {std::nullopt, "one node: all memory is equally near"};
  if (usable.empty()) return {std::nullopt, "the machine does not tell its cores' nodes"};
  NodePair pair;
  pair.near = usable[0].node;
  for (const HardwareThread& thread : usable) pair.near = std::min(pair.near, thread.node);
  for (const HardwareThread& thread : usable) {
    if (thread.node == pair.near) pair.threads.push_back(thread.number);
  }
  const auto allowed = AllowedNodes(root);
  bool is_found = false;
  for (const uint32_t node : nodes) {
    const bool may_use =
        !allowed || std::find(allowed->begin(), allowed->end(), node) != allowed->end();
    if (node == pair.near || !may_use) continue;
    const uint32_t distance = Distance(pair.near, node, root);
    if (is_found && distance <= pair.distance) continue;
    pair.far = node;
    pair.distance = distance;
    is_found = true;
  }
  if (is_found) return {pair, ""};
  return {std::nullopt, absl::StrCat(nodes.size(), " nodes, but memory of none but node ",
                                     pair.near, " may be used (cpuset)")};
}

absl::StatusOr<NodeMemoryFigures> ProbeNodeMemory(const NodePair& pair,
                                                  const NodeMemoryProbe& options,
                                                  const std::function<bool()>& go_on) {
  if (options.bytes < kMiB || options.bytes % kMiB != 0 || options.cell_ns <= 0 ||
      options.rounds < 1 || pair.threads.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("memory of node ", pair.far, ": ", options.bytes,
                                                   " bytes in ", options.rounds, " rounds of ",
                                                   options.cell_ns, " ns are not possible"));
  }
  absl::StatusOr<NodeMemoryFigures> figures = absl::InternalError("not run");
  std::thread([&] { figures = Measure(pair, options, go_on); }).join();
  return figures;
}

}  // namespace weir
